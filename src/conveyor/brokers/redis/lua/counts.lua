-- include: clock bucket
-- How many tasks of a queue are in each state, counted where they lie. ARGV[2] '1': and since when the
-- longest-waiting one waits.
-- Reply: {now, queued, parked, scheduled, running, succeeded, failed, cancelled, skipped, ms when the
-- longest-waiting one became available or -1, the packed pause or ''}
local MOST_LOOKED_AT, AHEAD_MS = 1000, 70368744177664
local tomb = root .. ':tomb'
local queued, oldest = call('HLEN', root .. ':gw') - tonumber(call('HGET', tomb, '') or 0), nil

-- The head of a list may be a cancelled task.
local some_are_dead = call('EXISTS', tomb) == 1
for priority = 0, 9 do
  local key = root .. ':q:' .. priority
  queued = queued + call('LLEN', key)
  local items = call('LRANGE', key, 0, some_are_dead and MOST_LOOKED_AT or 0)
  for _, item in ipairs(items) do
    if not some_are_dead or call('HEXISTS', tomb, string.sub(item, 1, 16)) == 0 then
      local since = struct.unpack('>I6', item, #item > 16 and 17 or 1)
      oldest = oldest and math.min(oldest, since) or since
      break
    end
  end
end

-- Of lanes the first ones, and some of those that are parked: there may be very many.
local function look_at_lanes()
  local lanes = call('ZRANGE', root .. ':lanes', 0, MOST_LOOKED_AT)
  local some = call('HSCAN', root .. ':parked', '0', 'COUNT', MOST_LOOKED_AT)[2]
  for k = 1, #some, 2 do lanes[#lanes + 1] = some[k] end
  for _, lane in ipairs(lanes) do
    local head = call('ZRANGE', root .. ':l:' .. lane, 0, 0, 'WITHSCORES')
    local since = head[2] and tonumber(head[2])
    if since and since < 0 then since = since + AHEAD_MS end
    if since then oldest = oldest and math.min(oldest, since) or since end
  end
end
if ARGV[2] == '1' then look_at_lanes() end

local parked_tasks, succeeded = 0, 0
for _, name in ipairs(call('SMEMBERS', root .. ':pn')) do
  parked_tasks = parked_tasks + call('ZCARD', root .. ':p:' .. name)
end
for _, prefix in ipairs(call('ZRANGE', root .. ':fb', 0, -1)) do
  succeeded = succeeded + call('HLEN', bucket(':f:', prefix))
end
return {
  whole(now), queued, parked_tasks, call('ZCARD', root .. ':due'), call('HLEN', root .. ':i'), succeeded,
  call('HLEN', root .. ':failed'), call('HLEN', root .. ':cancelled'), call('HLEN', root .. ':skipped'), whole(oldest or -1),
  call('GET', root .. ':pause') or '',
}
