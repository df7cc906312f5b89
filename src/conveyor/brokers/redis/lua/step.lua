-- include: clock bucket tell ring wait finish lease claim settle
-- lanes: fields terms unique gates rooms slots lanes end flag turns wave order
-- One beat of a worker on one queue: settle, promote, lease; in one atomic go.
-- ARGV[2] worker  ARGV[3] how many it wants  ARGV[4] '1' when it listens for its bell
-- ARGV[5] how many of them may come from lanes  ARGV[6] to ARGV[9] the settlements, see _settle.lua
-- Reply: {now, 1 if the worker's lease is live here, leased tasks as one MessagePack array or '',
-- {place, m ...} of those leased before, refused ids, ids to cancel, ms of the next due task or -1,
-- 1 when it is worth asking for more at once, how many came from lanes}
--   cw:<token>  SET of ids that the worker was not told yet to stop
local MOST_PROMOTED, MOST_LOOKED_AT, AT_A_TIME = 1000, 10000, 250
local worker, want, slots = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local released = 0
if ARGV[6] ~= '' then released = settle_all(cmsgpack.unpack(ARGV[6])) end
local promoted, next_due = promote(MOST_PROMOTED)
local live = may_lease(worker)
local more, left, from_lanes = 0, 0, 0

local function earlier(one, other)
  return one and other and math.min(one, other) or one or other
end

local function claim(lists, number)
  local ids, number_of_lanes = lanes().claim_in_order(lists, number, slots - from_lanes)
  from_lanes = from_lanes + number_of_lanes
  return ids, #ids > 0
end

local function lease_all(gated)
  local lists, looked_at = waiting_lists(), 0
  while #leased < want do
    local number = math.min(want - #leased, AT_A_TIME)
    local ids, on
    if gated then ids, on = claim(lists, number) else ids, on = take(lists, number) end
    if on then
      looked_at = looked_at + number
      give(ids, worker, gated and lanes().records)
    end
    if looked_at >= MOST_LOOKED_AT or leased_bytes >= MOST_BYTES or (gated and lanes().looked_enough()) then
      more = 1
      break
    end
    if not on then break end
  end
  if gated then trim(lists) end
  for _, list in ipairs(lists) do left = left + list.left end
end

local gated = call('EXISTS', root .. ':lanes', root .. ':later') > 0
if gated then
  -- The removal lets the script through when memory is full, see _settle.lua.
  call('ZREM', root .. ':lanes', '')
  next_due = earlier(next_due, lanes().open_due(MOST_PROMOTED))
end
if want > 0 and live and call('EXISTS', root .. ':pause') == 0 then lease_all(gated) end

local lanes_wait = false
if gated then
  lanes().end_of_turns()
  next_due = earlier(next_due, tonumber(call('ZRANGE', root .. ':later', 0, 0, 'WITHSCORES')[2]))
  lanes_wait = want > 0 and live and call('EXISTS', root .. ':lanes') == 1 and call('EXISTS', root .. ':pause') == 0
end

local bell = root .. ':cw:' .. worker
local cancels = call('SMEMBERS', bell)
if #cancels > 0 then call('DEL', bell) end
publish()
local full = lanes_wait and from_lanes >= slots
if want == 0 or #leased == want or full then
  -- A worker without a free slot hands the ring on: it looks again when one of its tasks ends.
  call('SREM', root .. ':idle', worker)
elseif live and ARGV[4] == '1' then
  -- Not worth an error when memory is full: the worker looks again within a second.
  redis.pcall('SADD', root .. ':idle', worker)
end
local opened = lanes_made and lanes_made.ring_elsewhere() or 0
if left > 0 or lanes_wait then
  ring(1)
elseif want == 0 or not live then
  ring(released + promoted + opened)
end
return { whole(now), live and 1 or 0, leased_tasks(), leased_before, refused, cancels, whole(next_due or -1), more, from_lanes }
