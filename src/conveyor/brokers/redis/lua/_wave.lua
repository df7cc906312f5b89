-- Many lanes at once. Where nobody is refused and nobody waits for a gate, what the lanes that stand
-- first give is known from one look at all of them: it is read together, decided in their order and
-- written together. The first lane that needs more than that ends the wave; it is looked at by itself.
-- A wave, while it is decided:
--   line    place of the first plain task  most  how many may be taken  waited  see `waited_for`
--   ids     taken so far  again  the first place at which a lane stands that was taken from
--   tats, busy  {gate id = tat}; gates that had no slot taken
--   places, used_up, keys  {place, lane ...}; lanes that are empty, their keys
local LEAST_LANES, MOST_WASTED = 2, 500
-- How many tasks of a lane are worth reading; how many lanes were read for nothing.
local reach, wasted = 1, 0

-- Returns the lanes that stand before the line: {lane, place, lane ...}.
local function lanes_before(line, most)
  local bound = line == HUGE and '+inf' or '(' .. string.format('%.17g', line)
  return call('ZRANGEBYSCORE', root .. ':lanes', '-inf', bound, 'WITHSCORES', 'LIMIT', 0, most)
end

-- Reads the records of the first tasks in the lanes that are not known yet.
local function read_records(views, depth)
  local ids = {}
  for _, view in ipairs(views) do
    for n = 1, math.min(#view.items, 2 * depth), 2 do
      if not records[view.items[n]] then ids[#ids + 1] = view.items[n] end
    end
  end
  for k, record in ipairs(#ids > 0 and tasks_by_id(ids) or {}) do records[ids[k]] = record end
end

-- Reads the heads of lanes: {lane, place, items = {id, score, id ...}, terms, priority ...}, of each up
-- to `depth` and the one behind.
local function read_lanes(found, depth)
  local views = {}
  for k = 1, #found, 2 do
    local key = root .. ':l:' .. found[k]
    local items = call('ZRANGE', key, 0, depth, 'WITHSCORES')
    views[#views + 1] = { lane = found[k], key = key, place = tonumber(found[k + 1]), items = items }
  end
  read_records(views, depth)
  for _, view in ipairs(views) do
    local packed = records[view.items[1]]
    if packed then view.terms, view.priority = terms_of(packed) end
  end
  return views
end

-- Returns the gates of all of them, each once. A view gets the ids of its own, and `odd` if a task of it
-- asks for more than a wave gives.
local function gates_of(views)
  local gates, seen = {}, {}
  for k, view in ipairs(views) do
    local terms, ids = view.terms, {}
    view.odd, view.gate_ids = not terms or terms[UNIQUE], ids
    for n, gate in ipairs(terms and terms[GATES] or {}) do
      local id = gate_id(gate)
      ids[n] = id
      view.odd = view.odd or gate[LINE] or seen[id] == k
      if not seen[id] then gates[#gates + 1] = gate end
      seen[id] = k
    end
  end
  return gates
end

-- Returns the set of the gates at which somebody waits.
local function waited_for(gates)
  local waited = {}
  if #gates == 0 or call('EXISTS', root .. ':parked') == 0 then return waited end
  local rooms = {}
  for k, gate in ipairs(gates) do
    local is_rate = gate[RATE] > 0
    rooms[k] = is_rate and root .. ':room:' .. room_of(gate) or shared .. 'rooms:' .. gate_id(gate)
  end
  for k in pairs(which_exist(rooms)) do waited[gate_id(gates[k])] = true end
  return waited
end

local function may_go(view, waited)
  if view.odd then return false end
  for k, gate in ipairs(view.terms[GATES]) do
    local id = view.gate_ids[k]
    if waited[id] or refusal(gate, states[id], false) then return false end
  end
  return true
end

local function take_one(wave, view, id)
  wave.ids[#wave.ids + 1] = id
  for k, gate in ipairs(view.terms[GATES]) do
    local gid = view.gate_ids[k]
    local state = states[gid]
    if gate[RATE] > 0 then
      state.tat = math.max(state.tat, seconds) + gate[COST] * interval(gate, state)
      wave.tats[gid] = state.tat
    else
      if state.running == 0 then wave.busy[#wave.busy + 1] = gid end
      state.running = state.running + 1
    end
  end
end

-- Takes from a lane while it stands first, before `bound`. Returns how many, and where it stands then:
-- nil when it is empty.
local function take_from(wave, view, bound, most)
  local items, place, count, asked = view.items, view.place, 0, nil
  while place and count < most and place <= bound and place < wave.line do
    local id, since = items[2 * count + 1], tonumber(items[2 * count + 2])
    local packed = records[id]
    if not packed or since < 0 or not may_go(view, wave.waited) then break end
    if count > 0 then
      asked = asked or packed_terms(records[items[1]])
      if string.sub(packed, -#asked) ~= asked then break end
    end
    take_one(wave, view, id)
    count = count + 1
    local behind, fair = items[2 * count + 2], view.terms[FAIR]
    local credit = LEVEL_MS * view.priority
    local before = place
    place = behind and since_of(behind) - credit
    if place and fair then place = math.max(place, turn_on(view.lane, before, fair, credit)) end
  end
  return count, place
end

local function write_slots(view, count)
  for k, gate in ipairs(view.terms[GATES]) do
    if gate[RATE] <= 0 then
      local slots = {}
      for n = 1, count do
        slots[2 * n - 1], slots[2 * n] = now_text, view.items[2 * n - 1] .. root
      end
      call('ZADD', slots_key(view.gate_ids[k]), unpack(slots))
    end
  end
end

local function leave_lane(wave, view, count, place)
  heads[view.lane] = nil
  write_slots(view, count)
  if place then
    call('ZREMRANGEBYRANK', view.key, 0, count - 1)
    wave.places[#wave.places + 1] = place
    wave.places[#wave.places + 1] = view.lane
    wave.again = math.min(wave.again, place)
    return
  end
  wave.used_up[#wave.used_up + 1] = view.lane
  wave.keys[#wave.keys + 1] = view.key
  local fair = view.terms[FAIR]
  if fair and fair[2] > 1 then call('HDEL', root .. ':turns', view.lane) end
end

local function write_wave(wave)
  call('HDEL', root .. ':gw', unpack(wave.ids))
  if #wave.used_up > 0 then
    call('DEL', unpack(wave.keys))
    call('ZREM', root .. ':lanes', unpack(wave.used_up))
  end
  if #wave.places > 0 then call('ZADD', root .. ':lanes', unpack(wave.places)) end
  local tats = {}
  for id, tat in pairs(wave.tats) do
    tats[#tats + 1] = tat
    tats[#tats + 1] = id
  end
  if #tats > 0 then call('ZADD', shared .. 'tat', unpack(tats)) end
  if #wave.busy > 0 then call('SADD', shared .. 'busy', unpack(wave.busy)) end
end

-- How many tasks of each lane a wave looks at. Those of a fair one are its turn.
local function depth_for(lane, most, number)
  local view = { items = call('ZRANGE', root .. ':l:' .. lane, 0, 0, 'WITHSCORES') }
  read_records({ view }, 1)
  local packed = records[view.items[1]]
  local fair = packed and terms_of(packed)[FAIR]
  return math.min(fair and fair[2] or reach, math.ceil(most / number))
end

-- Decides the lanes one after the other. Returns how many gave something.
local function decide(wave, views, depth)
  for k, view in ipairs(views) do
    local left = wave.most - #wave.ids
    if view.place > wave.again or left <= 0 then return k - 1 end
    local next_view = views[k + 1]
    local bound = math.min(wave.again, next_view and next_view.place or view.place)
    local count, place = take_from(wave, view, bound, math.min(depth, left))
    if count == 0 then return k - 1 end
    leave_lane(wave, view, count, place)
  end
  return #views
end

-- Takes up to `most` tasks of the lanes in their order. Returns their ids; nil when there are too few
-- lanes, or when the first is to be looked at by itself.
local function try_wave(line, most)
  if most < LEAST_LANES or wasted > MOST_WASTED then return nil end
  local found = lanes_before(line, most)
  local number = #found / 2
  if number < LEAST_LANES then return nil end
  local depth = depth_for(found[1], most, number)
  local views = read_lanes(found, depth)
  local gates = gates_of(views)
  local wave = {
    line = line, most = most, waited = waited_for(gates), ids = {}, again = HUGE,
    tats = {}, busy = {}, places = {}, used_up = {}, keys = {},
  }
  load_states(gates)
  local gave = decide(wave, views, depth)
  wasted = wasted + number - gave
  if gave == 0 then return nil end
  looks, last_lane = looks + gave, nil
  reach = #wave.ids == number * depth and reach * 4 or math.ceil(#wave.ids / gave)
  write_wave(wave)
  return wave.ids
end
