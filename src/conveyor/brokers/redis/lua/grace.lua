-- include: clock
-- Lengthens every lease that was not swept by ARGV[2] ms. Reply: how many
local tokens = call('ZRANGEBYSCORE', root .. ':w', 0, '+inf')
for _, token in ipairs(tokens) do call('ZINCRBY', root .. ':w', ARGV[2], token) end
return #tokens
