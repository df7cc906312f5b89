-- include: clock
-- Adds members to tallies. ARGV[2]: MessagePack of {key, {members}} ...   Reply: their sizes
--   tally:<key>  SET, of the namespace
local AT_A_TIME = 1000
local sizes = {}
for k, entry in ipairs(cmsgpack.unpack(ARGV[2])) do
  local key, members = root .. ':tally:' .. entry[1], entry[2]
  for first = 1, #members, AT_A_TIME do
    call('SADD', key, unpack(members, first, math.min(first + AT_A_TIME - 1, #members)))
  end
  sizes[k] = call('SCARD', key)
end
return sizes
