-- exports: unite
-- A new task asks for a key that may be held.
local function text_of(id)
  local hex = string.gsub(id, '.', function(byte) return string.format('%02x', string.byte(byte)) end)
  return table.concat({
    string.sub(hex, 1, 8), string.sub(hex, 9, 12), string.sub(hex, 13, 16), string.sub(hex, 17, 20),
    string.sub(hex, 21),
  }, '-')
end

-- The record of a holder that waits, so that another may take its place.
local function waiting_record(id)
  local packed = call('HGET', tasks_of(id), id)
  if not packed then return nil end
  local letter = place_of(id, packed)
  return (letter == 'q' or letter == 'd' or letter == 'p') and packed
end

local function debounced(unique, began)
  local due = now + 1000 * unique[SECONDS]
  if unique[LONGEST] > 0 then due = math.min(due, began + 1000 * unique[LONGEST]) end
  return due
end

-- Lets a task that is not due yet start no earlier than `due`; any other is left alone.
local function postpone(id, due)
  local packed = call('HGET', tasks_of(id), id)
  if not packed then return end
  local task = fields_of(packed, TERMS)
  local member = due_member(id, task[PRIORITY], asking(task[TERMS]))
  local before = tonumber(call('ZSCORE', root .. ':due', member))
  if before and before > now and before < due then call('ZADD', root .. ':due', whole(due), member) end
end

-- Returns the owner if it keeps the key, else when the series began that this task goes on with.
local function contend(id, field, unique)
  local owner, began = holder_of(field)
  if not owner then return nil, now end
  local packed = unique[ON_CONFLICT] == 'replace' and waiting_record(owner)
  if not packed then
    if unique[DEBOUNCE] then postpone(owner, debounced(unique, began)) end
    return owner
  end
  local flag = cmsgpack.pack({ '', 'replaced by ' .. text_of(id) })
  lanes().end_waiting(owner, packed, 'c', flag)
  return nil, began
end

-- Returns the owner that keeps the key and whether that is an error; or nil, nil and when the task is
-- due if its rule says so.
local function unite(id, name, unique)
  local field = key_field(name, unique[U_KEY])
  local owner, began = contend(id, field, unique)
  if owner then return owner, unique[ON_CONFLICT] == 'raise' end
  hold_unique(field, id, unique, began)
  return nil, nil, unique[DEBOUNCE] and debounced(unique, began) or nil
end
