-- What a task asks for beyond the plain line of its queue (conveyor.core.task.Terms), as it comes from
-- Python or from the task's record. A gate's id is its limit and its key.
local GATES, FAIR, LANE, UNIQUE = 1, 2, 3, 4
local LIMIT, GATE_KEY, RATE, BURST, COST, MOST, LINE, ON_FULL = 1, 2, 3, 4, 5, 6, 7, 8

-- Terms that only tell where a task came from ask for nothing here.
local function asking(terms)
  if terms and (terms[LANE] ~= '' or terms[UNIQUE]) then return terms end
  return nil
end

local function gate_id(gate)
  return gate[LIMIT] .. '\n' .. gate[GATE_KEY]
end

-- What stands for a task in `due`. The lane is in it, so that promoting needs no record.
local function due_member(id, priority, terms)
  return id .. priority .. (terms and terms[LANE] or '')
end
