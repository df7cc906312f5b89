-- include: clock
-- Copies a worker's lease into this queue's slot, where the scripts that lease look at it, and reads
-- which of its tasks here are asked to stop. ARGV[2] worker  ARGV[3] end of its lease, ms
-- Reply: {1 if it may lease here, {ids}}
local worker, till = ARGV[2], tonumber(ARGV[3])
local key = root .. ':w'
local before = call('ZSCORE', key, worker)
local swept = before and tonumber(before) < 0
if not swept then
  -- The removal lets the script through when memory is full: leases must be kept even then.
  call('ZREM', key, worker)
  call('ZADD', key, ARGV[3], worker)
end
if till <= now then call('SREM', root .. ':idle', worker) end
local cancels, flags = {}, call('HGETALL', root .. ':c')
local mine = worker .. '\n'
for k = 1, #flags, 2 do
  if string.sub(flags[k + 1], 1, #mine) == mine then cancels[#cancels + 1] = flags[k] end
end
return { not swept and till > now and 1 or 0, cancels }
