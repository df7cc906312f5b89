-- The order of the claim over plain tasks and lanes. A lane stands where its head would stand among the
-- plain tasks; a fair one, once it had its turn, no earlier than at that moment.
--   turn   STRING ms of the last turn of a fair lane: each is a little later than the one before it
--   turns  HASH lane -> tasks taken in its turn so far, of those whose turns are longer than one
local MOST_LOOKS, TURN_MS = 1000, 0.001
local looks, heads, turn = 0, {}, nil
-- The lane that a task was taken from last, where others may go the same way; that task.
local last_lane, last_packed, last_terms, last_priority
-- What was read of tasks that may be given out.
local records = {}
local CANCELS = { cancel_newest = 'c', drop = 'k' }

local function next_turn()
  if not turn then turn = tonumber(call('GET', root .. ':turn') or 0) end
  turn = math.max(now, turn) + TURN_MS
  return turn
end

-- Where a fair lane stands after one more of its tasks was taken.
local function turn_on(lane, place, fair, credit)
  if fair[2] > 1 then
    if call('HINCRBY', root .. ':turns', lane, 1) < fair[2] then return place end
    call('HDEL', root .. ':turns', lane)
  end
  return next_turn() - credit
end

-- A lane lost its head: finds the place of the next one.
local function go_on(lane, place, credit, fair)
  local head = call('ZRANGE', root .. ':l:' .. lane, 0, 0, 'WITHSCORES')
  if not head[1] then
    call('ZREM', root .. ':lanes', lane)
    if fair then call('HDEL', root .. ':turns', lane) end
    return
  end
  heads[lane] = head
  local next_place = since_of(head[2]) - credit
  if fair then next_place = math.max(next_place, turn_on(lane, place, fair, credit)) end
  call('ZADD', root .. ':lanes', next_place, lane)
end

-- Flags whoever has a slot for longest, if it runs and was not flagged yet.
local function flag_oldest(gate)
  local id_at = call('ZRANGE', shared .. 'slots:' .. gate_id(gate), 0, 0)[1]
  if not id_at then return end
  local id, base = string.sub(id_at, 1, 16), string.sub(id_at, 17)
  local hold = call('HGET', base .. ':i', id)
  if not hold or call('HEXISTS', base .. ':c', id) == 1 then return end
  local reason = 'limit ' .. gate[LIMIT] .. ' was full and a newer task waits'
  flag_running(id, hold, cmsgpack.pack({ '', reason }), base)
end

local function end_newcomer(id, packed, gate)
  local letter, reason = CANCELS[gate[ON_FULL]], 'limit ' .. gate[LIMIT] .. ' was full'
  if letter == 'c' then
    end_waiting(id, packed, 'c', cmsgpack.pack({ '', reason }), nil)
  else
    end_waiting(id, packed, 'k', nil, reason)
  end
end

local function lease_head(lane, place, id, terms, priority, name)
  local unique = terms[UNIQUE]
  if unique and (unique[UNTIL] == 'queued' or unique[UNTIL] == 'start') then
    free_unique(key_field(name, unique[U_KEY]), id)
  end
  call('ZREM', root .. ':l:' .. lane, id)
  call('HDEL', root .. ':gw', id)
  go_on(lane, place, LEVEL_MS * priority, terms[FAIR])
end

-- What is no task any more (a failover may lose moments) must not keep the others waiting.
local function drop_unknown(lane, id)
  if id then
    call('ZREM', root .. ':l:' .. lane, id)
    call('HDEL', root .. ':gw', id)
  end
  if call('EXISTS', root .. ':l:' .. lane) == 0 then call('ZREM', root .. ':lanes', lane) end
end

-- Looks at the head of a lane. Returns its id if it was admitted.
local function try_lane(lane, place)
  looks = looks + 1
  local head = heads[lane] or call('ZRANGE', root .. ':l:' .. lane, 0, 0, 'WITHSCORES')
  heads[lane] = nil
  local id = head[1]
  local packed = id and (records[id] or call('HGET', tasks_of(id), id))
  if not packed then
    drop_unknown(lane, id)
    return nil
  end
  local terms, priority, name = terms_of(packed)
  local gates = terms[GATES]
  local gate, why, at = admit(gates, id .. root)
  if not gate then
    records[id] = packed
    lease_head(lane, place, id, terms, priority, name)
    if not terms[FAIR] then
      last_lane, last_packed, last_terms, last_priority = lane, packed, terms, priority
    end
    hand_on(gates)
    return id
  end
  if why == 'full' and CANCELS[gate[ON_FULL]] then
    end_newcomer(id, packed, gate)
    return nil
  end
  if why == 'full' and gate[ON_FULL] == 'cancel_oldest' then flag_oldest(gate) end
  park(lane, place, gate, at)
  hand_on(gates, gate)
  return nil
end

-- Whether one decision may do for several tasks: nobody waits for their gates, and none is of a line.
local function may_run(terms)
  local seen = {}
  if terms[UNIQUE] then return false end
  for _, gate in ipairs(terms[GATES]) do
    local id = gate_id(gate)
    if gate[LINE] or seen[id] or not nobody_at[id] then return false end
    seen[id] = true
  end
  return true
end

-- Returns the first tasks of a lane that ask for the same as a packed one and stand before `bound`.
local function alike(lane, place, bound, most, packed, credit)
  local asked, key = packed_terms(packed), root .. ':l:' .. lane
  local first, ids, run = call('ZRANGE', key, 0, most - 1, 'WITHSCORES'), {}, {}
  for k = 1, #first, 2 do
    local since = tonumber(first[k + 1])
    -- While its place does not move, a lane that stands first goes on standing first.
    if since < 0 or (k > 1 and since - credit > place and since - credit >= bound) then break end
    ids[#ids + 1] = first[k]
  end
  local tasks = #ids > 0 and tasks_by_id(ids) or {}
  for k, id in ipairs(ids) do
    -- The terms end a task, and all of a lane name it in theirs: the same end is the same terms.
    if not tasks[k] or string.sub(tasks[k], -#asked) ~= asked then break end
    run[k], records[id] = id, tasks[k]
  end
  return run
end

-- Takes up to `most` tasks of a lane, of which the first stands first in all, at once. Returns their
-- ids, nil when the first is to be looked at by itself.
local function try_run(lane, place, bound, most)
  local gates, credit = last_terms[GATES], LEVEL_MS * last_priority
  most = may_run(last_terms) and count_run(gates, most) or 0
  local ids = most > 1 and alike(lane, place, bound, most, last_packed, credit) or {}
  if #ids < 2 then
    last_lane = nil
    return nil
  end
  local members = {}
  for k, id in ipairs(ids) do members[k] = id .. root end
  take_run_of_gates(gates, members)
  call('ZREM', root .. ':l:' .. lane, unpack(ids))
  call('HDEL', root .. ':gw', unpack(ids))
  looks, heads[lane] = looks + 1, nil
  go_on(lane, place, credit, nil)
  return ids
end
