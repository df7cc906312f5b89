-- include: clock
-- Notes that a worker is about to work on a queue. Before its lease is copied there: whoever sweeps
-- it later must know where to look. ARGV[2] worker  ARGV[3] queue
-- Reply: the end of its lease in ms, '0' when it has none
local till = tonumber(call('ZSCORE', root .. ':w', ARGV[2]) or 0)
if till <= now then return '0' end
local key = root .. ':wq:' .. ARGV[2]
call('SREM', key, ARGV[3])
call('SADD', key, ARGV[3])
return whole(till)
