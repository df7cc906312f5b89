-- include: clock fields terms bucket tell ring unique gates rooms slots lanes
-- One page of the tasks that wait in lanes, looked over for `doctor`. ARGV[2] cursor  ARGV[3] page size
-- Reply: {next cursor, {ids that a step would not find}, {ids at the head of a parked lane which its
-- gate admits though nobody will wake it}}
local lost, forgotten = {}, {}

-- Whether exactly one of the places has a lane that would lead to it.
local function is_placed(lane)
  local room = call('HGET', root .. ':parked', lane)
  local ready = call('ZSCORE', root .. ':lanes', lane)
  if not room then return ready end
  return not ready and call('ZSCORE', root .. ':room:' .. room, lane)
end

local function is_forgotten(lane, id)
  local room = call('HGET', root .. ':parked', lane)
  if not room or call('ZSCORE', root .. ':later', room) or call('EXISTS', root .. ':lanes') == 1 then
    return false
  end
  local packed = call('HGET', tasks_of(id), id)
  for _, gate in ipairs(packed and fields_of(packed, TERMS)[TERMS][GATES] or {}) do
    if room_of(gate) == room then
      local state, holds = state_of(gate), has_slot(gate, id .. root)
      local why, at = refusal(gate, state, holds)
      if why == 'closed' and gate[RATE] <= 0 then
        -- It may have been parked for want of a slot before the gate was closed.
        local till = state.closed
        state.closed = 0
        local full = refusal(gate, state, holds)
        state.closed = till
        if full then return false end
      end
      return not why or at ~= nil
    end
  end
  return true
end

local page = call('HSCAN', root .. ':gw', ARGV[2], 'COUNT', ARGV[3])
for k = 1, #page[2], 2 do
  local id, lane = page[2][k], page[2][k + 1]
  local key = root .. ':l:' .. lane
  if not call('ZSCORE', key, id) or not is_placed(lane) then
    lost[#lost + 1] = id
  elseif call('ZRANGE', key, 0, 0)[1] == id and is_forgotten(lane, id) then
    forgotten[#forgotten + 1] = id
  end
end
return { page[1], lost, forgotten }
