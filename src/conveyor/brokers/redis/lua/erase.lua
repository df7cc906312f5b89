-- include: clock
-- Deletes a document. ARGV[2] kind  ARGV[3] id  ARGV[4] its version, '' for any   Reply: 1 if it did
local key, id = root .. ':doc:' .. ARGV[2], ARGV[3]
local stored = call('HGET', key, id)
if not stored or (ARGV[4] ~= '' and string.match(stored, '^%d+') ~= ARGV[4]) then return 0 end
call('HDEL', key, id)
call('ZREM', root .. ':docix:' .. ARGV[2], id)
return 1
