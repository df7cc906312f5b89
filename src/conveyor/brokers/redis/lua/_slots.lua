-- exports: free_many
-- Slots that are freed. Nobody may wait for a lane whose queue is paused or has no workers, so one lane
-- in each room of the gate is woken for each slot.
local MOST_FREED = 1000

local function slots_key(gid)
  return shared .. 'slots:' .. gid
end

local function wake_waiting(gid, freed)
  for _, listed in ipairs(call('SMEMBERS', shared .. 'rooms:' .. gid)) do
    local most, base = string.match(listed, '^(%d+) (.*)$')
    local room, left = gid .. '\n' .. most .. '\n', freed
    while left > 0 and wake_first(room, base) do left = left - 1 end
  end
end

-- Returns how many of the members had a slot.
local function take_back(gid, members)
  local freed = call('ZREM', slots_key(gid), unpack(members))
  local state = states[gid]
  if freed > 0 and state and state.running then state.running = state.running - freed end
  return freed
end

-- Frees the slots that members have of a gate.
local function free_slots_of(gid, members)
  local freed = take_back(gid, members)
  if freed == 0 then return end
  if call('EXISTS', slots_key(gid)) == 0 then call('SREM', shared .. 'busy', gid) end
  wake_waiting(gid, freed)
end

-- Which of some keys are there: {place = true}. One command when none is, and when it is all of them.
local function which_exist(keys)
  local number, found = call('EXISTS', unpack(keys)), {}
  if number == 0 then return found end
  for k, key in ipairs(keys) do
    found[k] = number == #keys or call('EXISTS', key) == 1 or nil
  end
  return found
end

-- The gates whose slots were freed: those that have none left are not busy, and who waits for one may
-- look. What asks only whether there is anything is asked for all at once.
local function after_freeing(gids, keys, freed)
  local still, idle, rooms = which_exist(keys), {}, {}
  for k, gid in ipairs(gids) do
    if not still[k] then idle[#idle + 1] = gid end
    rooms[k] = shared .. 'rooms:' .. gid
  end
  if #idle > 0 then call('SREM', shared .. 'busy', unpack(idle)) end
  local waited = which_exist(rooms)
  for k, gid in ipairs(gids) do
    if waited[k] then wake_waiting(gid, freed[k]) end
  end
end

-- Frees slots of many gates: the first `numbers[1]` of the joined ids have one of the first gate, and
-- so on. Returns where the ids of the next gate begin.
local function free_some(gids, numbers, first, last, joined, at, stale)
  local some, keys, freed = {}, {}, {}
  for g = first, last do
    local members = {}
    for _ = 1, numbers[g] do
      local id = string.sub(joined, at, at + 15)
      at = at + 16
      if not stale[id] then members[#members + 1] = id .. root end
    end
    local number = #members > 0 and take_back(gids[g], members) or 0
    if number > 0 then
      some[#some + 1], freed[#freed + 1] = gids[g], number
      keys[#keys + 1] = slots_key(gids[g])
    end
  end
  if #some > 0 then after_freeing(some, keys, freed) end
  return at
end

-- Frees the slots of a task: all of them at its end, else those that no line keeps.
local function free_slots(id, terms, is_final)
  for _, gate in ipairs(terms[GATES]) do
    if gate[RATE] <= 0 and (is_final or not gate[LINE]) then
      free_slots_of(gate_id(gate), { id .. root })
    end
  end
end

local function free_many(gids, numbers, joined, stale)
  local at = 1
  for first = 1, #gids, MOST_FREED do
    at = free_some(gids, numbers, first, math.min(#gids, first + MOST_FREED - 1), joined, at, stale)
  end
end
