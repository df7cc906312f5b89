-- Uniqueness: at most one task per (name, key) of a queue while it is held.
--   uniq  HASH field -> id of the holder + six bytes: when its series began, for debouncing
--   ux    ZSET field -> ms when a period ends; only of keys held for a period
local U_KEY, UNTIL, SECONDS, ON_CONFLICT, DEBOUNCE, LONGEST = 1, 2, 3, 4, 5, 6

-- Returns the holder's id and the ms when its series began; nothing when the key is free.
local function holder_of(field)
  local held = call('HGET', root .. ':uniq', field)
  if not held then return nil end
  local till = call('ZSCORE', root .. ':ux', field)
  if till and tonumber(till) <= now then return nil end
  return string.sub(held, 1, 16), struct.unpack('>I6', held, 17)
end

local function hold_unique(field, id, unique, began)
  call('HSET', root .. ':uniq', field, id .. six(began))
  if unique[UNTIL] == 'period' then
    call('ZADD', root .. ':ux', whole(now + 1000 * unique[SECONDS]), field)
  else
    call('ZREM', root .. ':ux', field)
  end
end

local function free_unique(field, id)
  local held = call('HGET', root .. ':uniq', field)
  if held and string.sub(held, 1, 16) == id then
    call('HDEL', root .. ':uniq', field)
    call('ZREM', root .. ':ux', field)
  end
end

-- A task that waits again takes its key back, unless somebody else has it by now.
local function take_unique_back(id, name, unique)
  local field = key_field(name, unique[U_KEY])
  if not holder_of(field) then hold_unique(field, id, unique, now) end
end
