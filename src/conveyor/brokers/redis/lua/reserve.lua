-- include: clock terms gates
-- Takes tokens of a rate gate for a running task, whatever they cost (conveyor.core.gates.reserve).
-- ARGV[2]: MessagePack of the gate   Reply: seconds to wait before using them
local gate = cmsgpack.unpack(ARGV[2])
local state = state_of(gate)
-- Closed without end: nothing is taken, for what is taken at no time could never be paid back.
if state.closed == HUGE then return 'inf' end
local start = math.max(seconds, state.closed)
local each = interval(gate, state)
local spent = math.max(tat_of(state), start) + gate[COST] * each
if spent == HUGE then return 'inf' end
-- The removal lets the script through when memory is full: what runs has to go on.
call('ZREM', shared .. 'tat', state.id)
call('ZADD', shared .. 'tat', spent, state.id)
return string.format('%.17g', math.max(start, spent - tolerance(gate, each)) - seconds)
