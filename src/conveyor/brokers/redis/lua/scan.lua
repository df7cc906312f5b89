-- include: clock
-- One page of the ids in a key, without the values, which may be large.
-- ARGV[2]: 'hash', 'zset' or 'list'  ARGV[3]: the key below the root  ARGV[4]: cursor
-- ARGV[5]: page size   Reply: {next cursor or '0', ids}
local kind, key, cursor, size = ARGV[2], root .. ARGV[3], ARGV[4], ARGV[5]
local ids = {}
if kind == 'list' then
  local first = tonumber(cursor)
  local items = call('LRANGE', key, first, first + size - 1)
  for k, item in ipairs(items) do ids[k] = string.sub(item, 1, 16) end
  return { #items == tonumber(size) and whole(first + size) or '0', ids }
end
local page = call(kind == 'hash' and 'HSCAN' or 'ZSCAN', key, cursor, 'COUNT', size)
for k = 1, #page[2], 2 do ids[#ids + 1] = string.sub(page[2][k], 1, 16) end
return { page[1], ids }
