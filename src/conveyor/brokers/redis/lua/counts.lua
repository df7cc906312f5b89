-- include: clock bucket
-- How many tasks of a queue are in each state, counted where they lie.
-- Reply: {now, queued, parked, scheduled, running, succeeded, failed, cancelled, ms when the
-- longest-waiting one became available or -1, the packed pause or ''}
local MOST_LOOKED_AT = 1000
local tomb = root .. ':tomb'
local queued, oldest = -tonumber(call('HGET', tomb, '') or 0), nil

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

local parked, succeeded = 0, 0
for _, name in ipairs(call('SMEMBERS', root .. ':pn')) do
  parked = parked + call('ZCARD', root .. ':p:' .. name)
end
for _, prefix in ipairs(call('ZRANGE', root .. ':fb', 0, -1)) do
  succeeded = succeeded + call('HLEN', bucket(':f:', prefix))
end
return {
  whole(now), queued, parked, call('ZCARD', root .. ':due'), call('HLEN', root .. ':i'), succeeded,
  call('HLEN', root .. ':failed'), call('HLEN', root .. ':cancelled'), whole(oldest or -1),
  call('GET', root .. ':pause') or '',
}
