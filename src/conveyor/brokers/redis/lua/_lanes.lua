-- exports: due_member wait_in_lane join_many promote_gated put_back open_due ring_elsewhere
-- Lanes: where gated tasks wait.
--   l:<lane>     ZSET id -> ms since when it waits; of a task that goes first, AHEAD_MS less
--   gw           HASH id -> lane, of all tasks that wait in lanes
--   lanes        ZSET lane -> its place in the order of the claim, of lanes that may be looked at
--   parked       HASH lane -> the room it waits in, of all others that are not empty
--   room:<room>  ZSET lane -> its place, of the lanes in a room
--   later        ZSET room -> ms when its first lane looks again
--   rooms:<gate> SET "<most> <root>": rooms of a gate of slots in all queues (shared)
-- A room is a gate whose lanes wait together; tasks that allow another number of slots wait in another
-- one. Lanes wait there, not each for itself: a gate that opens lets the first one look, and whoever
-- looked and did not use it up lets the next one. So a token or a slot costs two looks, however many
-- lanes want it. For every room one of these holds: it is in `later`; or its gate is full or closed
-- without end, and a slot that is freed or a person will wake a lane; or a lane of that gate is in
-- `lanes` and hands on when it is looked at.
local AHEAD_MS = 70368744177664
local woken, looked, nobody_at = {}, {}, {}

local function since_of(score)
  score = tonumber(score)
  return score < 0 and score + AHEAD_MS or score
end

local function room_of(gate, most)
  if gate[RATE] > 0 then return gate_id(gate) end
  return gate_id(gate) .. '\n' .. (most or gate[MOST]) .. '\n'
end

-- A gate of tokens has one room in each queue; of one of slots the rooms are listed.
local function list_room(verb, room, base)
  local id, most = string.match(room, '^(.*)\n(%d+)\n$')
  if id then call(verb, shared .. 'rooms:' .. id, most .. ' ' .. base) end
end

local function unpark(lane, base, room)
  local key = base .. ':room:' .. room
  call('ZREM', key, lane)
  call('HDEL', base .. ':parked', lane)
  if call('EXISTS', key) == 0 then
    list_room('SREM', room, base)
    call('ZREM', base .. ':later', room)
  end
end

local function make_ready(lane, place, base)
  call('ZADD', base .. ':lanes', place, lane)
  woken[base] = (woken[base] or 0) + 1
end

-- Lets the first lane in a room look again. Returns whether there was one.
local function wake_first(room, base)
  local first = call('ZRANGE', base .. ':room:' .. room, 0, 0, 'WITHSCORES')
  if not first[1] then return false end
  unpark(first[1], base, room)
  make_ready(first[1], tonumber(first[2]), base)
  return true
end

local function wake_at(room, at)
  local ms = math.ceil(at * 1000)
  if ms / 1000 < at then ms = ms + 1 end
  call('ZADD', root .. ':later', 'LT', ms, room)
end

local function park(lane, place, gate, at)
  local room = room_of(gate)
  call('ZREM', root .. ':lanes', lane)
  if call('ZADD', root .. ':room:' .. room, place, lane) == 1 then list_room('SADD', room, root) end
  call('HSET', root .. ':parked', lane, room)
  if at then wake_at(room, at) end
  nobody_at[gate_id(gate)] = nil
  looked[lane] = true
end

-- Returns the rooms of a gate in a queue: {room, most or nil ...}.
local function rooms_of(gate, base)
  if gate[RATE] > 0 then return { { room_of(gate) } } end
  local rooms = {}
  for _, listed in ipairs(call('SMEMBERS', shared .. 'rooms:' .. gate_id(gate))) do
    local most, its_base = string.match(listed, '^(%d+) (.*)$')
    if its_base == base then rooms[#rooms + 1] = { room_of(gate, most), tonumber(most) } end
  end
  return rooms
end

-- Lets the first lane of a room look if its gate admits somebody. A lane that was refused in this script
-- is not asked again, so that two cannot wake each other for ever. Returns whether anybody is there.
local function let_look(room, most, gate)
  local first = call('ZRANGE', root .. ':room:' .. room, 0, 0)[1]
  if not first then return false end
  local why, at = refusal(gate, state_of(gate), false, most)
  if at then
    wake_at(room, at)
  elseif not why and not looked[first] then
    wake_first(room, root)
  end
  return true
end

-- Whoever looked hands on: to the next lane at each of its gates that still admits somebody.
local function hand_on(gates, except)
  for _, gate in ipairs(gates) do
    local id = gate ~= except and gate_id(gate)
    if id and not nobody_at[id] then
      local somebody = false
      for _, room in ipairs(rooms_of(gate, root)) do
        somebody = let_look(room[1], room[2], gate) or somebody
      end
      nobody_at[id] = not somebody
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
    local room = call('HGET', root .. ':parked', lane)
    if room then unpark(lane, root, room) end
  elseif call('ZCARD', key) > 1 then
    return 1 - call('HEXISTS', root .. ':parked', lane)
  end
  call('ZADD', root .. ':lanes', 'LT', since - LEVEL_MS * priority, lane)
  return 1
end

-- New tasks start to wait in one lane. Returns how many of them may be looked at.
local function join_many(lane, priority, ids, since)
  local key, scores, lanes_of = root .. ':l:' .. lane, {}, {}
  for k, id in ipairs(ids) do
    scores[2 * k - 1], scores[2 * k] = since, id
    lanes_of[2 * k - 1], lanes_of[2 * k] = id, lane
  end
  local added = call('ZADD', key, unpack(scores))
  call('HSET', root .. ':gw', unpack(lanes_of))
  if call('ZCARD', key) > added then
    return call('HEXISTS', root .. ':parked', lane) == 1 and 0 or #ids
  end
  call('ZADD', root .. ':lanes', 'LT', since - LEVEL_MS * priority, lane)
  return #ids
end

local function place_of_lane(lane)
  local room = call('HGET', root .. ':parked', lane)
  local place = call('ZSCORE', root .. (room and ':room:' .. room or ':lanes'), lane)
  return tonumber(place), room
end

-- Takes a waiting task out of its lane. Whoever is behind a head that goes has other gates, perhaps.
local function leave(id, priority, terms)
  local lane = terms[LANE]
  local key = root .. ':l:' .. lane
  local was_first = call('ZRANGE', key, 0, 0)[1] == id
  call('HDEL', root .. ':gw', id)
  call('ZREM', key, id)
  if not was_first then return end
  local place, room = place_of_lane(lane)
  if room then unpark(lane, root, room) end
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[1] then
    make_ready(lane, math.max(place, since_of(first[2]) - LEVEL_MS * priority), root)
  else
    call('ZREM', root .. ':lanes', lane)
    call('HDEL', root .. ':turns', lane)
    hand_on(terms[GATES])
  end
end

-- Frees the slots that members have of a gate.
local function free_slots_of(gid, members)
  local key = shared .. 'slots:' .. gid
  local freed = call('ZREM', key, unpack(members))
  if freed == 0 then return end
  local state = states[gid]
  if state and state.running then state.running = state.running - freed end
  if call('EXISTS', key) == 0 then call('SREM', shared .. 'busy', gid) end
  -- One in each room for each: nobody may wait for a lane whose queue is paused or has no workers.
  for _, listed in ipairs(call('SMEMBERS', shared .. 'rooms:' .. gid)) do
    local most, base = string.match(listed, '^(%d+) (.*)$')
    local room, left = gid .. '\n' .. most .. '\n', freed
    while left > 0 and wake_first(room, base) do left = left - 1 end
  end
end

-- Frees the slots of a task: all of them at its end, else those that no line keeps.
local function free_slots(id, terms, is_final)
  for _, gate in ipairs(terms[GATES]) do
    if gate[RATE] <= 0 and (is_final or not gate[LINE]) then
      free_slots_of(gate_id(gate), { id .. root })
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
  for _, room in ipairs(call('ZRANGEBYSCORE', key, '-inf', whole(now), 'LIMIT', 0, limit)) do
    call('ZREM', key, room)
    wake_first(room, root)
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
