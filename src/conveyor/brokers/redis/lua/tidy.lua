-- include: clock bucket tell ring wait
-- lanes: fields terms unique gates rooms slots lanes
-- Housekeeping of one queue: promotes due tasks, prunes what retention has ended; at most ARGV[2] of
-- each kind, so that no call takes long. Reply: {promoted, pruned, workers whose copy of the lease
-- here is long over though nobody swept them}
local limit = math.min(tonumber(ARGV[2]), 2000)
local SWEPT_KEPT_MS, STALE_MS = 7 * RETENTION_MS, 60000

local function prune_keys()
  local fields = call('ZRANGEBYSCORE', root .. ':kx', '-inf', whole(now), 'LIMIT', 0, limit)
  if #fields > 0 then
    call('HDEL', root .. ':keys', unpack(fields))
    call('ZREM', root .. ':kx', unpack(fields))
  end
  return #fields
end

local function prune_periods()
  local fields = call('ZRANGEBYSCORE', root .. ':ux', '-inf', whole(now), 'LIMIT', 0, limit)
  if #fields == 0 then return end
  call('HDEL', root .. ':uniq', unpack(fields))
  call('ZREM', root .. ':ux', unpack(fields))
end

-- Gates that are out of debt or open again need no state.
local function forget_idle_gates()
  call('ZREMRANGEBYSCORE', shared .. 'tat', '-inf', whole(math.floor(now / 1000)))
  local open = call('ZRANGEBYSCORE', shared .. 'shut', '-inf', whole(math.floor(now / 1000)), 'LIMIT', 0, limit)
  if #open == 0 then return end
  call('ZREM', shared .. 'shut', unpack(open))
  call('HDEL', shared .. 'why', unpack(open))
end

local function prune_dead()
  local ids = call('ZRANGEBYSCORE', root .. ':dx', '-inf', whole(now), 'LIMIT', 0, limit)
  if #ids == 0 then return 0 end
  call('ZREM', root .. ':dx', unpack(ids))
  call('HDEL', root .. ':failed', unpack(ids))
  call('HDEL', root .. ':cancelled', unpack(ids))
  call('HDEL', root .. ':skipped', unpack(ids))
  for _, id in ipairs(ids) do
    call('HDEL', tasks_of(id), id)
    unlist_if_empty(string.sub(id, 1, 4))
  end
  return #ids
end

-- Successes go by the bucket. When nothing else is in it, it is freed in the background at once,
-- however large; else the living and the dead letters in it have to stay.
local function prune_bucket(prefix)
  local tasks, successes = bucket(':j:', prefix), bucket(':f:', prefix)
  local number = call('HLEN', successes)
  if call('HLEN', tasks) == number then
    call('UNLINK', tasks, successes)
  elseif number > 0 then
    local ids = call('HRANDFIELD', successes, limit)
    call('HDEL', tasks, unpack(ids))
    call('HDEL', successes, unpack(ids))
    number = #ids
  end
  if call('EXISTS', successes) == 0 then call('ZREM', root .. ':fb', prefix) end
  unlist_if_empty(prefix)
  return number
end

local function prune_successes()
  local number = 0
  for _, prefix in ipairs(call('ZRANGEBYSCORE', root .. ':fb', '-inf', whole(now), 'LIMIT', 0, 16)) do
    if number < limit then number = number + prune_bucket(prefix) end
  end
  return number
end

local promoted = promote(limit)
lanes().open_due(limit)
prune_periods()
forget_idle_gates()
local pruned = prune_keys() + prune_dead() + prune_successes()
call('ZREMRANGEBYSCORE', root .. ':w', whole(SWEPT_KEPT_MS - now), 0)
publish()
ring(promoted + lanes().ring_elsewhere())
local stale = call('ZRANGEBYSCORE', root .. ':w', '(0', whole(now - STALE_MS), 'LIMIT', 0, 100)
return { promoted, pruned, stale }
