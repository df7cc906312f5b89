-- include: clock
-- Stores a document if its version is still the one that was seen.
-- ARGV[2] kind  ARGV[3] id  ARGV[4] version seen, 0 for none  ARGV[5] body
-- Keys of the namespace, for each kind:
--   doc:<kind>    HASH id -> "<version> <body>"
--   docix:<kind>  ZSET of the ids, all at score 0: in the order of their bytes, for pages
-- Reply: the new version, 0 when somebody was faster
local key, id, seen = root .. ':doc:' .. ARGV[2], ARGV[3], tonumber(ARGV[4])
local stored = call('HGET', key, id)
local version = stored and tonumber(string.match(stored, '^%d+')) or 0
if version ~= seen then return 0 end
call('HSET', key, id, whole(version + 1) .. ' ' .. ARGV[5])
if version == 0 then call('ZADD', root .. ':docix:' .. ARGV[2], 0, id) end
return version + 1
