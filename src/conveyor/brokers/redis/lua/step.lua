-- include: clock bucket tell ring wait finish lease claim settle
-- One beat of a worker on one queue: settle, promote, lease; in one atomic go.
-- ARGV[2] worker  ARGV[3] how many it wants  ARGV[4] '1' when it listens for its bell
-- ARGV[5] to ARGV[8] the settlements, see _settle.lua
-- Reply: {now, 1 if the worker's lease is live here, leased tasks as one MessagePack array or '',
-- {place, m ...} of those leased before, refused ids, ids to cancel, ms of the next due task or -1,
-- 1 when it is worth asking for more at once}
--   cw:<token>  SET of ids that the worker was not told yet to stop
local MOST_PROMOTED, MOST_LOOKED_AT, AT_A_TIME = 1000, 10000, 250
local worker, want = ARGV[2], tonumber(ARGV[3])
local released = 0
if ARGV[5] ~= '' then released = settle_all(cmsgpack.unpack(ARGV[5])) end
local promoted, next_due = promote(MOST_PROMOTED)
local live = may_lease(worker)
local more, left = 0, 0

local function lease_all()
  local lists, looked = waiting_lists(), 0
  while #leased < want do
    local number = math.min(want - #leased, AT_A_TIME)
    local ids, on = take(lists, number)
    if not on then break end
    looked = looked + number
    give(ids, worker)
    if looked >= MOST_LOOKED_AT or leased_bytes >= MOST_BYTES then
      more = 1
      break
    end
  end
  for _, list in ipairs(lists) do left = left + list.left end
end

if want > 0 and live and call('EXISTS', root .. ':pause') == 0 then lease_all() end

local bell = root .. ':cw:' .. worker
local cancels = call('SMEMBERS', bell)
if #cancels > 0 then call('DEL', bell) end
publish()
if want == 0 or #leased == want then
  call('SREM', root .. ':idle', worker)
elseif live and ARGV[4] == '1' then
  -- Not worth an error when memory is full: the worker looks again within a second.
  redis.pcall('SADD', root .. ':idle', worker)
end
if left > 0 then
  ring(1)
elseif want == 0 or not live then
  ring(released + promoted)
end
return { whole(now), live and 1 or 0, leased_tasks(), leased_before, refused, cancels, whole(next_due or -1), more }
