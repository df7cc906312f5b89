-- include: clock fields terms bucket tell ring unique gates lanes lease
-- Leases parked tasks whose names the worker knows.
-- ARGV[2] worker  ARGV[3] how many it wants  ARGV[4] MessagePack of the names it knows
-- Reply: {now, 1 if the worker's lease is live here or nothing is parked, leased tasks as one
-- MessagePack array or '', {place, m ...}}
local worker, want = ARGV[2], tonumber(ARGV[3])
local names = call('SMEMBERS', root .. ':pn')
if #names == 0 then return { whole(now), 1, '', {} } end
if not may_lease(worker) then return { whole(now), 0, '', {} } end

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

local function adopt_named(name)
  local key, ids = root .. ':p:' .. name, {}
  local popped = call('ZPOPMIN', key, want - #leased)
  for k = 1, #popped, 2 do
    if is_admitted(popped[k]) then
      ids[#ids + 1] = popped[k]
    else
      call('ZADD', key, popped[k + 1], popped[k])
    end
  end
  give(ids, worker)
  if call('EXISTS', key) == 0 then call('SREM', root .. ':pn', name) end
end

if call('EXISTS', root .. ':pause') == 0 then
  local known = {}
  for _, name in ipairs(cmsgpack.unpack(ARGV[4])) do known[name] = true end
  for _, name in ipairs(names) do
    if known[name] and #leased < want then adopt_named(name) end
  end
  publish()
end
return { whole(now), 1, leased_tasks(), leased_before }
