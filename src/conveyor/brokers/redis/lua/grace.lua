-- include: clock
-- Lengthens every lease that was not swept by ARGV[2] ms, to twice as long from now at the most.
-- Reply: how many
local ms = tonumber(ARGV[2])
local found = call('ZRANGEBYSCORE', root .. ':w', 0, '+inf', 'WITHSCORES')
for i = 1, #found, 2 do
  local till = math.min(tonumber(found[i + 1]), now + ms) + ms
  call('ZADD', root .. ':w', whole(till), found[i])
end
return #found / 2
