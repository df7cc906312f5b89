-- Reads the first fields of a packed task (conveyor.core.task.Task, an array), which cmsgpack cannot
-- because its payload is a `bin`. Only for verbs that are told nothing but ids.
local NAME, PRIORITY, KEY, DIGEST, TERMS = 2, 4, 11, 12, 15
local LENGTH_BYTES = { [0xc4] = 1, [0xc5] = 2, [0xc6] = 4, [0xd9] = 1, [0xda] = 2, [0xdb] = 4 }
local NUMBER_BYTES = {
  [0xca] = 4, [0xcb] = 8, [0xcc] = 1, [0xcd] = 2, [0xce] = 4, [0xcf] = 8,
  [0xd0] = 1, [0xd1] = 2, [0xd2] = 4, [0xd3] = 8,
}

-- Returns the value at a position (floats and negative numbers as nil: nobody asks), and the next one.
local function value_at(packed, at)
  local head = string.byte(packed, at)
  if head < 0x80 then return head, at + 1 end
  local text = head >= 0xa0 and head <= 0xbf and head - 0xa0
  local width = LENGTH_BYTES[head]
  if width then
    text = struct.unpack('>I' .. width, packed, at + 1)
    at = at + width
  end
  if text then return string.sub(packed, at + 1, at + text), at + 1 + text end
  if head < 0xa0 or (head >= 0xdc and head <= 0xdf) then
    -- Headers and terms hold nothing that cmsgpack does not know.
    local after, value = cmsgpack.unpack_one(packed, at - 1)
    return value, after + 1
  end
  return nil, at + 1 + (NUMBER_BYTES[head] or 0)
end

local function fields_of(packed, last)
  local at = string.byte(packed, 1) == 0xdc and 4 or 2
  local fields = {}
  for k = 1, last do fields[k], at = value_at(packed, at) end
  return fields
end

local function key_field(name, key)
  return #name .. ':' .. name .. key
end
