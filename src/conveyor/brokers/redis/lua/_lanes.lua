-- exports: due_member wait_in_lane join_lanes promote_gated put_back open_due ring_elsewhere
-- How tasks come into lanes and go; see _rooms.lua for the keys.
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

-- Which lanes have tasks already: for each the room it waits in, true where it may be looked at.
local function rooms_of_lanes(names)
  local places, rooms = call('ZMSCORE', root .. ':lanes', unpack(names)), {}
  local parked = call('EXISTS', root .. ':parked') == 1 and call('HMGET', root .. ':parked', unpack(names)) or {}
  for k in ipairs(names) do rooms[k] = parked[k] or (places[k] and true) end
  return rooms
end

-- New tasks start to wait, lane by lane: {name, priority, ids}. Returns how many may be looked at.
local function join_lanes(groups, since)
  local names, lanes_of, fresh, number = {}, {}, {}, 0
  for k, group in ipairs(groups) do names[k] = group.name end
  local rooms, score = rooms_of_lanes(names), whole(since)
  for k, group in ipairs(groups) do
    local scores = {}
    for n, id in ipairs(group.ids) do
      scores[2 * n - 1], scores[2 * n] = score, id
      lanes_of[#lanes_of + 1] = id
      lanes_of[#lanes_of + 1] = group.name
    end
    call('ZADD', root .. ':l:' .. group.name, unpack(scores))
    if not rooms[k] then
      fresh[#fresh + 1] = since - LEVEL_MS * group.priority
      fresh[#fresh + 1] = group.name
    end
    if type(rooms[k]) ~= 'string' then number = number + #group.ids end
  end
  call('HSET', root .. ':gw', unpack(lanes_of))
  if #fresh > 0 then call('ZADD', root .. ':lanes', unpack(fresh)) end
  return number
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
  local terms, priority = terms_of(packed)
  wait_in_lane(id, priority, since, terms)
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
