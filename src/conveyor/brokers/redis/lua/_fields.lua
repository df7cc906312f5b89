-- Reads the fields of a packed task (conveyor.core.task.Task, an array). cmsgpack does it, but for the
-- payload: that is a `bin`, which it does not know. Only for verbs that are told nothing but ids, and for
-- tasks in lanes.
local NAME, PRIORITY, PAYLOAD, KEY, DIGEST, TERMS = 2, 4, 5, 11, 12, 15
local LENGTH_BYTES = { [0xc4] = 1, [0xc5] = 2, [0xc6] = 4 }

-- Returns the fields up to the last one that is asked for, by place.
local function fields_of(packed, last)
  local start = string.byte(packed, 1) == 0xdc and 3 or 1
  local fields = { cmsgpack.unpack_limit(packed, PAYLOAD - 1, start) }
  local at = table.remove(fields, 1) + 1
  if last < PAYLOAD then return fields end
  local width = LENGTH_BYTES[string.byte(packed, at)]
  at = at + width + struct.unpack('>I' .. width, packed, at + 1)
  local rest = { cmsgpack.unpack_limit(packed, last - PAYLOAD, at) }
  for k = PAYLOAD + 1, last do fields[k] = rest[k - PAYLOAD + 1] end
  return fields
end

-- Returns the terms of a task that has some, its priority and its name. Cheaper than `fields_of`: no
-- table is made.
local function terms_of(packed)
  local start = string.byte(packed, 1) == 0xdc and 3 or 1
  local at, _, name, _, priority = cmsgpack.unpack_limit(packed, PAYLOAD - 1, start)
  local width = LENGTH_BYTES[string.byte(packed, at + 1)]
  at = at + 1 + width + struct.unpack('>I' .. width, packed, at + 2)
  local _, _, _, _, _, _, _, _, _, _, terms = cmsgpack.unpack_limit(packed, TERMS - PAYLOAD, at)
  return terms, priority, name
end

-- Returns the packed terms of a task: its last field.
local function packed_terms(packed)
  local start = string.byte(packed, 1) == 0xdc and 3 or 1
  local at = cmsgpack.unpack_limit(packed, PAYLOAD - 1, start) + 1
  local width = LENGTH_BYTES[string.byte(packed, at)]
  at = at + width + struct.unpack('>I' .. width, packed, at + 1)
  return string.sub(packed, cmsgpack.unpack_limit(packed, TERMS - PAYLOAD - 1, at) + 1)
end

local function key_field(name, key)
  return #name .. ':' .. name .. key
end
