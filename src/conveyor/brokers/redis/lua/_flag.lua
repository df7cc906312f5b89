-- exports: flag_running
-- Asks a running task to stop: its worker finds it in its next step, or is told by its bell. `base`: the
-- root of its queue.
local function flag_running(id, hold, flag, base)
  local worker = string.match(hold, '^%d+ %d+ (%S*)')
  call('HSET', base .. ':c', id, worker .. '\n' .. flag)
  call('SADD', base .. ':cw:' .. worker, id)
  ring_one(worker, base)
end
