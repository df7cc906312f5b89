-- exports: is_admitted
-- Parked tasks stand in no lane; those with gates are admitted all the same.
local function is_admitted(id)
  local task = fields_of(call('HGET', tasks_of(id), id), TERMS)
  local terms = asking(task[TERMS])
  if not terms then return true end
  if admit(terms[GATES], id .. root) then return false end
  local unique = terms[UNIQUE]
  if unique and (unique[UNTIL] == 'queued' or unique[UNTIL] == 'start') then
    free_unique(key_field(task[NAME], unique[U_KEY]), id)
  end
  return true
end
