-- exports: end_waiting let_go let_all_go
-- Ends tasks that do not run.
-- What a task with terms gives back at its end.
local function let_go(id, name, terms)
  free_slots(id, terms, true)
  local unique = terms[UNIQUE]
  if unique and unique[UNTIL] ~= 'period' then free_unique(key_field(name, unique[U_KEY]), id) end
end

-- The same for many, of which each is {id, name, terms}: gate by gate.
local MOST_FREED = 1000

local function let_all_go(entries)
  local members, order = {}, {}
  for _, entry in ipairs(entries) do
    local id, terms = entry[1], entry[3]
    local unique = terms[UNIQUE]
    if unique and unique[UNTIL] ~= 'period' then free_unique(key_field(entry[2], unique[U_KEY]), id) end
    for _, gate in ipairs(terms[GATES]) do
      if gate[RATE] <= 0 then
        local gid = gate_id(gate)
        local mine = members[gid]
        if not mine or #mine >= MOST_FREED then
          mine = {}
          members[gid] = mine
          order[#order + 1] = { gid, mine }
        end
        mine[#mine + 1] = id .. root
      end
    end
  end
  for _, group in ipairs(order) do free_slots_of(group[1], group[2]) end
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
