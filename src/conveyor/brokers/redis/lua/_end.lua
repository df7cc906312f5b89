-- exports: end_waiting let_go free_keys
-- Ends tasks that do not run.
-- What a task with terms gives back at its end.
local function let_go(id, name, terms)
  free_slots(id, terms, true)
  local unique = terms[UNIQUE]
  if unique and unique[UNTIL] ~= 'period' then free_unique(key_field(name, unique[U_KEY]), id) end
end

-- Gives the unique keys of ended tasks back: {id, key field, id ...}.
local function free_keys(pairs_of, stale)
  for k = 1, #pairs_of, 2 do
    if not stale[pairs_of[k]] then free_unique(pairs_of[k + 1], pairs_of[k]) end
  end
end

-- Takes a waiting task out of where it waits.
local function withdraw(id, name, priority, terms)
  if call('ZREM', root .. ':due', due_member(id, priority, terms)) == 1 then return end
  local parked = root .. ':p:' .. name
  if call('ZREM', parked, id) == 1 then
    if call('EXISTS', parked) == 0 then call('SREM', root .. ':pn', name) end
    return
  end
  if terms and terms[LANE] ~= '' then
    leave(id, priority, terms)
    return
  end
  call('HINCRBY', root .. ':tomb', id, 1)
  call('HINCRBY', root .. ':tomb', '', 1)
end

-- letter: c with a packed cancellation, or k with a reason.
local function end_waiting(id, packed, letter, flag, reason)
  local task = fields_of(packed, TERMS)
  local name, priority, key, terms = task[NAME], task[PRIORITY], task[KEY], asking(task[TERMS])
  local before = call('HGET', root .. ':m', id)
  local number, touched = '0', EMPTY
  if before then number, touched = string.match(before, '^(%d+) (.*)$') end
  if reason then touched = '\147' .. EMPTY .. NONE .. cmsgpack.pack(reason) end
  withdraw(id, name, priority, terms)
  local five = OPEN_FIVE .. cmsgpack.pack(tonumber(number)) .. touched .. NONE .. NONE .. cmsgpack.pack(0)
  finish(id, letter, five, flag, key and key_field(name, key) or '', 0)
  if terms then let_go(id, name, terms) end
  tell(letter .. number, id, 1)
end
