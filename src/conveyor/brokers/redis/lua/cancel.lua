-- include: clock ids fields bucket tell ring finish
-- Cancels waiting tasks and flags running ones.
-- ARGV[2]: ids, joined   ARGV[3]: the packed cancellation (who, why)
-- Reply: {place, letter of the state after the call, place ...} of the ids known here
local flag, states = ARGV[3], {}

local function flag_running(id, hold)
  local worker = string.match(hold, '^%d+ %d+ (%S*)')
  call('HSET', root .. ':c', id, worker .. '\n' .. flag)
  call('SADD', root .. ':cw:' .. worker, id)
  ring_one(worker)
end

-- Takes a waiting task out of where it waits.
local function withdraw(id, name, priority)
  if call('ZREM', root .. ':due', id .. priority) == 1 then return end
  local parked = root .. ':p:' .. name
  if call('ZREM', parked, id) == 1 then
    if call('EXISTS', parked) == 0 then call('SREM', root .. ':pn', name) end
    return
  end
  call('HINCRBY', root .. ':tomb', id, 1)
  call('HINCRBY', root .. ':tomb', '', 1)
end

local function end_waiting(id, packed)
  local task = fields_of(packed, KEY)
  local name, priority, key = task[NAME], task[PRIORITY], task[KEY]
  local before = call('HGET', root .. ':m', id)
  local number, touched = '0', EMPTY
  if before then number, touched = string.match(before, '^(%d+) (.*)$') end
  withdraw(id, name, priority)
  local five = OPEN_FIVE .. cmsgpack.pack(tonumber(number)) .. touched .. NONE .. NONE .. cmsgpack.pack(0)
  finish(id, 'c', five, flag, key and key_field(name, key) or '', 0)
  tell('c' .. number, id, 1)
end

local function cancel(id)
  local packed = call('HGET', tasks_of(id), id)
  if not packed then return nil end
  local hold = call('HGET', root .. ':i', id)
  if hold then
    flag_running(id, hold)
    return 'r'
  end
  if call('HEXISTS', successes_of(id), id) == 1 then return 's' end
  if call('HEXISTS', root .. ':failed', id) == 1 then return 'f' end
  if call('HEXISTS', root .. ':cancelled', id) == 0 then end_waiting(id, packed) end
  return 'c'
end

for place, id in ipairs(split(ARGV[2], 16)) do
  local letter = cancel(id)
  if letter then
    states[#states + 1] = place
    states[#states + 1] = letter
  end
end
publish()
return states
