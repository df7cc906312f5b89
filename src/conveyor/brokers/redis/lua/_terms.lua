-- What a task asks for beyond the plain line of its queue (conveyor.core.task.Terms), as it comes from
-- Python or from the task's record. A gate's id is its limit and its key.
local GATES, FAIR, LANE, UNIQUE = 1, 2, 3, 4
local LIMIT, GATE_KEY, RATE, BURST, COST, MOST, LINE, ON_FULL, GATE_ID = 1, 2, 3, 4, 5, 6, 7, 8, 9

-- Terms that only tell where a task came from ask for nothing here.
local function asking(terms)
  if terms and (terms[LANE] ~= '' or terms[UNIQUE]) then return terms end
  return nil
end

-- Kept in the gate: it is asked for again and again.
local function gate_id(gate)
  local id = gate[GATE_ID]
  if not id then
    id = gate[LIMIT] .. '\n' .. gate[GATE_KEY]
    gate[GATE_ID] = id
  end
  return id
end

-- What stands for a task in `due`. The lane is in it, so that promoting needs no record.
local function due_member(id, priority, terms)
  return id .. priority .. (terms and terms[LANE] or '')
end
