-- Where a task is says what state it is in. One look: {letter, task, where, m, note, flag, executions}
--   letter  q queued, p parked, d scheduled, r running, s f c k final
--   where   r: the hold; d: ms when due; s f c k: the ending; else ''
local function final_of(id)
  local ending = call('HGET', successes_of(id), id)
  if ending then return 's', ending end
  ending = call('HGET', root .. ':failed', id)
  if ending then return 'f', ending end
  ending = call('HGET', root .. ':cancelled', id)
  if ending then return 'c', ending end
  ending = call('HGET', root .. ':skipped', id)
  if ending then return 'k', ending end
  return nil
end

local function place_of(id, packed)
  local hold = call('HGET', root .. ':i', id)
  if hold then return 'r', hold end
  local letter, ending = final_of(id)
  if letter then return letter, ending end
  local task = fields_of(packed, TERMS)
  local due = call('ZSCORE', root .. ':due', due_member(id, task[PRIORITY], task[TERMS]))
  if due then return 'd', due end
  if call('ZSCORE', root .. ':p:' .. task[NAME], id) then return 'p', '' end
  return 'q', ''
end

local function look(id, whole_history)
  local packed = call('HGET', tasks_of(id), id)
  if not packed then return nil end
  local letter, where = place_of(id, packed)
  local before = call('HGET', root .. ':m', id) or ''
  local executions = {}
  if before ~= '' then
    executions = call('LRANGE', root .. ':x:' .. id, whole_history and 0 or -1, -1)
  end
  local note, flag = '', ''
  if letter == 'r' then
    note = call('HGET', root .. ':notes', id) or ''
    flag = call('HGET', root .. ':c', id) or ''
  end
  return { letter, packed, where, before, note, flag, executions }
end
