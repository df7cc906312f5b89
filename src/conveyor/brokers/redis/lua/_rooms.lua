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

