-- exports: due_member wait_in_lane promote_gated put_back open_due ring_elsewhere
-- Lanes: where gated tasks wait.
--   l:<lane>     ZSET id -> ms since when it waits; of a task that goes first, AHEAD_MS less
--   gw           HASH id -> lane, of all tasks that wait in lanes
--   lanes        ZSET lane -> its place in the order of the claim, of lanes that may be looked at
--   parked       HASH lane -> the gate that refused it, of all others that are not empty
--   bl:<gate>    ZSET lane -> its place, of the lanes parked under a gate
--   later        ZSET gate -> ms when its first lane looks again
--   bq:<gate>    SET of the roots of queues with lanes parked under it (shared)
-- Lanes wait at their gate, not each for itself: a gate that opens lets one lane look, and whoever
-- looked and did not use it up lets the next one. So a token or a slot costs two looks, however many
-- lanes want it. For every gate with parked lanes one of these holds: it is in `later`; or it is full
-- or closed without end, and a slot that is freed or a person will wake a lane; or a lane of it is in
-- `lanes` and hands on when it is looked at.
local AHEAD_MS = 70368744177664
local woken, looked, nobody_at = {}, {}, {}

local function since_of(score)
  score = tonumber(score)
  return score < 0 and score + AHEAD_MS or score
end

local function unpark(lane, base, id)
  local key = base .. ':bl:' .. id
  call('ZREM', key, lane)
  call('HDEL', base .. ':parked', lane)
  if call('EXISTS', key) == 0 then
    call('SREM', shared .. 'bq:' .. id, base)
    call('ZREM', base .. ':later', id)
  end
end

local function make_ready(lane, place, base)
  call('ZADD', base .. ':lanes', place, lane)
  woken[base] = (woken[base] or 0) + 1
end

-- Lets the first lane that is parked under a gate look again. Returns whether there is one.
local function wake_first(id, base)
  local first = call('ZRANGE', base .. ':bl:' .. id, 0, 0, 'WITHSCORES')
  if not first[1] then return false end
  unpark(first[1], base, id)
  make_ready(first[1], tonumber(first[2]), base)
  return true
end

local function wake_at(id, at, base)
  local ms = math.ceil(at * 1000)
  if ms / 1000 < at then ms = ms + 1 end
  call('ZADD', base .. ':later', 'LT', ms, id)
end

local function park(lane, place, id, at)
  call('ZREM', root .. ':lanes', lane)
  call('ZADD', root .. ':bl:' .. id, place, lane)
  call('HSET', root .. ':parked', lane, id)
  call('SADD', shared .. 'bq:' .. id, root)
  if at then wake_at(id, at, root) end
  nobody_at[id] = nil
  looked[lane] = true
end

-- Whoever looked hands on: to the next lane at each of its gates that still admits somebody. A lane
-- that was refused in this script is not asked again, so that two cannot wake each other for ever.
local function hand_on(gates, except)
  for _, gate in ipairs(gates) do
    local id = gate ~= except and gate_id(gate)
    if id and not nobody_at[id] then
      local first = call('ZRANGE', root .. ':bl:' .. id, 0, 0)[1]
      if first then
        local why, at = refusal(gate, state_of(gate), false)
        if at then
          wake_at(id, at, root)
        elseif not why and not looked[first] then
          wake_first(id, root)
        end
      else
        nobody_at[id] = true
      end
    end
  end
end

-- A task starts to wait in its lane; `ahead` of those that are there when it comes back to a line.
-- Returns 1 if it may be looked at, 0 if its lane is parked.
local function join(id, priority, lane, since, ahead)
  local key = root .. ':l:' .. lane
  call('ZADD', key, ahead and since - AHEAD_MS or since, id)
  call('HSET', root .. ':gw', id, lane)
  if ahead then
    local gate = call('HGET', root .. ':parked', lane)
    if gate then unpark(lane, root, gate) end
  elseif call('ZCARD', key) > 1 then
    return 1 - call('HEXISTS', root .. ':parked', lane)
  end
  call('ZADD', root .. ':lanes', 'LT', since - LEVEL_MS * priority, lane)
  return 1
end

local function place_of_lane(lane)
  local gate = call('HGET', root .. ':parked', lane)
  local place = call('ZSCORE', gate and root .. ':bl:' .. gate or root .. ':lanes', lane)
  return tonumber(place), gate
end

-- Takes a waiting task out of its lane. Whoever is behind a head that goes has other gates, perhaps.
local function leave(id, priority, terms)
  local lane = terms[LANE]
  local key = root .. ':l:' .. lane
  local was_first = call('ZRANGE', key, 0, 0)[1] == id
  call('HDEL', root .. ':gw', id)
  call('ZREM', key, id)
  if not was_first then return end
  local place, gate = place_of_lane(lane)
  if gate then unpark(lane, root, gate) end
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[1] then
    make_ready(lane, math.max(place, since_of(first[2]) - LEVEL_MS * priority), root)
  else
    call('ZREM', root .. ':lanes', lane)
    call('HDEL', root .. ':turns', lane)
    hand_on(terms[GATES])
  end
end

-- Frees the slots of a task: all of them at its end, else those that no line keeps.
local function free_slots(id, terms, is_final)
  for _, gate in ipairs(terms[GATES]) do
    if gate[RATE] <= 0 and (is_final or not gate[LINE]) then
      local gid = gate_id(gate)
      local key = shared .. 'slots:' .. gid
      if call('ZREM', key, id .. root) == 1 then
        local state = states[gid]
        if state and state.running then state.running = state.running - 1 end
        if call('EXISTS', key) == 0 then call('SREM', shared .. 'busy', gid) end
        -- One in each queue: nobody may wait for a lane whose queue is paused or has no workers.
        for _, base in ipairs(call('SMEMBERS', shared .. 'bq:' .. gid)) do wake_first(gid, base) end
      end
    end
  end
end

local function keeps_slot(id, terms)
  for _, gate in ipairs(terms[GATES]) do
    if has_slot(gate, id .. root) then return true end
  end
  return false
end

-- A task that comes back and kept its slot goes first in its lane.
local function wait_in_lane(id, priority, since, terms)
  if terms[LANE] == '' then return wait(id, priority, since) end
  return join(id, priority, terms[LANE], since, keeps_slot(id, terms))
end

-- Whether a task kept a slot is told by its gates, and they are in its record.
local function promote_gated(member, since)
  local id = string.sub(member, 1, 16)
  local packed = call('HGET', tasks_of(id), id)
  if not packed then return end
  local task = fields_of(packed, TERMS)
  wait_in_lane(id, task[PRIORITY], since, task[TERMS])
end

-- What an execution gives back whose task lives on.
local function put_back(id, name, terms)
  free_slots(id, terms, false)
  local unique = terms[UNIQUE]
  if unique and unique[UNTIL] == 'queued' then take_unique_back(id, name, unique) end
end

-- Opens gates whose time has come, at most `limit`. Returns when the next one's comes.
local function open_due(limit)
  local key = root .. ':later'
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', whole(now), 'LIMIT', 0, limit)) do
    call('ZREM', key, id)
    wake_first(id, root)
  end
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end

-- Rings in other queues for lanes that were woken there. Returns how many were woken here.
local function ring_elsewhere()
  for base, number in pairs(woken) do
    if base ~= root then ring(number, base) end
  end
  return woken[root] or 0
end
