-- Gates: what conveyor.core.gates decides, on the states kept here. (A test compares the two.)
-- Times of gates are in seconds, like there: the same doubles in the same order of operations.
--   tat          ZSET gate id -> theoretical arrival time, of rate gates in debt; those in the past
--                count for nothing and are forgotten by `tidy`
--   slots:<gate> ZSET id + root of its queue -> ms of its lease: who has a slot. There is no counter.
--   busy         SET of the gates that have some
--   shut         ZSET gate id, or the name of a limit -> until when it is closed, inf: until opened
--   why          HASH the same -> packed Pause
--   tuned        HASH limit -> "<rate or -> <most or -> <ms when it was tuned>"
-- All of these are `shared`. (A number that a script gives to a command arrives with all its digits.)
local HUGE = math.huge
local seconds = now / 1000
-- A number that is a score of many members is printed once.
local now_text = whole(now)
local states, numbers_of, some_shut, some_tuned = {}, {}, nil, nil

local function score_of(reply)
  if not reply then return nil end
  return reply == 'inf' and HUGE or tonumber(reply)
end

local function closed_until(id, limit)
  local scores = call('ZMSCORE', shared .. 'shut', id, limit)
  return math.max(score_of(scores[1]) or 0, score_of(scores[2]) or 0)
end

-- Puts the numbers that a limit was tuned to in a state.
local function tune(state, limit)
  local tuned = numbers_of[limit]
  if tuned == nil then
    tuned = call('HGET', shared .. 'tuned', limit)
    numbers_of[limit] = tuned
  end
  if tuned then
    local rate, most = string.match(tuned, '^(%S+) (%S+)')
    state.rate, state.most = tonumber(rate), tonumber(most)
  end
end

-- What is known of a gate; what only one kind of gate needs is read when it is needed.
local function state_of(gate)
  local id = gate_id(gate)
  local state = states[id]
  if state then return state end
  if some_shut == nil then
    some_shut = call('EXISTS', shared .. 'shut') == 1
    some_tuned = call('EXISTS', shared .. 'tuned') == 1
  end
  state = { id = id, closed = some_shut and closed_until(id, gate[LIMIT]) or 0 }
  if some_tuned then tune(state, gate[LIMIT]) end
  states[id] = state
  return state
end

local function tat_of(state)
  if not state.tat then state.tat = score_of(call('ZSCORE', shared .. 'tat', state.id)) or 0 end
  return state.tat
end

local function running_of(state)
  if not state.running then state.running = call('ZCARD', shared .. 'slots:' .. state.id) end
  return state.running
end

-- Reads the states of many gates, each named once, that are not known yet: all at once, but for what
-- few of them have.
local function load_states(gates)
  local rates, slots = {}, {}
  for _, gate in ipairs(gates) do
    if not states[gate_id(gate)] then
      local state, kind = state_of(gate), gate[RATE] > 0 and rates or slots
      kind[#kind + 1] = state.id
    end
  end
  local tats = #rates > 0 and call('ZMSCORE', shared .. 'tat', unpack(rates)) or {}
  for k, id in ipairs(rates) do states[id].tat = score_of(tats[k]) or 0 end
  local busy = #slots > 0 and call('SMISMEMBER', shared .. 'busy', unpack(slots)) or {}
  for k, id in ipairs(slots) do
    if busy[k] == 0 then states[id].running = 0 end
  end
  for _, gate in ipairs(gates) do
    local state = states[gate_id(gate)]
    if gate[RATE] > 0 then tat_of(state) else running_of(state) end
  end
end

local function interval(gate, state)
  return 1.0 / (state.rate or gate[RATE])
end

local function tolerance(gate, each)
  return gate[BURST] * each - math.max(0.0, math.min(SLACK, (gate[BURST] - gate[COST]) * each / 2))
end

-- Returns why a gate does not admit one task now, and when to ask again if that is known; nil when it
-- does. `holds`: the task has its slot already. `most`: slots in place of those the gate carries.
local function refusal(gate, state, holds, most)
  if state.closed > seconds then return 'closed', state.closed < HUGE and state.closed or nil end
  if gate[RATE] > 0 then
    local each = interval(gate, state)
    local at = math.max(tat_of(state), seconds) + gate[COST] * each - tolerance(gate, each)
    if at <= seconds then return nil end
    -- A limit that was tuned to no tokens at all.
    return 'rate', at < HUGE and at or nil
  end
  if holds or running_of(state) < (state.most or most or gate[MOST]) then return nil end
  return 'full', nil
end

local function spend(gate, state)
  state.tat = math.max(tat_of(state), seconds) + gate[COST] * interval(gate, state)
  call('ZADD', shared .. 'tat', state.tat, state.id)
end

local function take_slot(state, member, holds)
  if not holds then
    state.running = running_of(state) + 1
    if state.running == 1 then call('SADD', shared .. 'busy', state.id) end
  end
  call('ZADD', shared .. 'slots:' .. state.id, now, member)
end

-- Only a line keeps the slots of tasks that do not run.
local function has_slot(gate, member)
  return gate[LINE] and call('ZSCORE', shared .. 'slots:' .. gate_id(gate), member) and true or false
end

-- Admits one task through all its gates: nil, or the gate that keeps it waiting longest, why, and when
-- to ask again.
local function admit(gates, member)
  local worst, worst_why, worst_at, longest
  local holds = {}
  for k, gate in ipairs(gates) do
    holds[k] = has_slot(gate, member)
    local why, at = refusal(gate, state_of(gate), holds[k])
    if why and (not worst or (at or HUGE) > longest) then
      worst, worst_why, worst_at, longest = gate, why, at, at or HUGE
    end
  end
  if worst then return worst, worst_why, worst_at end
  for k, gate in ipairs(gates) do
    local state = state_of(gate)
    if gate[RATE] > 0 then spend(gate, state) else take_slot(state, member, holds[k]) end
  end
  return nil
end

-- Says how many of `most` tasks may start that carry the same gates, none of them that of a line: as
-- many as `admit` would admit one after the other. Nothing is taken.
local function count_run(gates, most)
  for _, gate in ipairs(gates) do
    local state, count = state_of(gate), 0
    if state.closed > seconds then return 0 end
    if gate[RATE] > 0 then
      local each = interval(gate, state)
      local cost, ahead = gate[COST] * each, tolerance(gate, each)
      local spent = math.max(tat_of(state), seconds) + cost
      while count < most and spent - ahead <= seconds do
        count, spent = count + 1, spent + cost
      end
    else
      count = math.max(0, (state.most or gate[MOST]) - running_of(state))
    end
    most = math.min(most, count)
  end
  return most
end

-- Takes what the members of a run need.
local function take_run_of_gates(gates, members)
  for _, gate in ipairs(gates) do
    local state = state_of(gate)
    if gate[RATE] > 0 then
      local cost, tat = gate[COST] * interval(gate, state), math.max(tat_of(state), seconds)
      for _ = 1, #members do tat = tat + cost end
      state.tat = tat
      call('ZADD', shared .. 'tat', tat, state.id)
    else
      local slots, last = {}, #members + 1
      -- The last one first: each then comes to stand before those of this moment, where a small set,
      -- which is a list, is entered.
      for k, member in ipairs(members) do
        slots[2 * (last - k) - 1], slots[2 * (last - k)] = now_text, member
      end
      if running_of(state) == 0 then call('SADD', shared .. 'busy', state.id) end
      state.running = running_of(state) + #members
      call('ZADD', shared .. 'slots:' .. state.id, unpack(slots))
    end
  end
end
