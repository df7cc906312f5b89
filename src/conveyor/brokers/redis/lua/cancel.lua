-- include: clock ids bucket tell ring finish
-- lanes: fields terms unique gates rooms slots lanes end flag
-- Cancels waiting tasks and flags running ones.
-- ARGV[2]: ids, joined   ARGV[3]: the packed cancellation (who, why)
-- Reply: {place, letter of the state after the call, place ...} of the ids known here
local flag, states_after = ARGV[3], {}

local function cancel(id)
  local packed = call('HGET', tasks_of(id), id)
  if not packed then return nil end
  local hold = call('HGET', root .. ':i', id)
  if hold then
    lanes().flag_running(id, hold, flag, root)
    return 'r'
  end
  if call('HEXISTS', successes_of(id), id) == 1 then return 's' end
  if call('HEXISTS', root .. ':failed', id) == 1 then return 'f' end
  if call('HEXISTS', root .. ':skipped', id) == 1 then return 'k' end
  if call('HEXISTS', root .. ':cancelled', id) == 0 then lanes().end_waiting(id, packed, 'c', flag) end
  return 'c'
end

for place, id in ipairs(split(ARGV[2], 16)) do
  local letter = cancel(id)
  if letter then
    states_after[#states_after + 1] = place
    states_after[#states_after + 1] = letter
  end
end
publish()
if lanes_made then ring(lanes_made.ring_elsewhere()) end
return states_after
