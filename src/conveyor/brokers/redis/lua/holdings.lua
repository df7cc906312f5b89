-- include: clock fields terms bucket look
-- One page of the running tasks of some workers.
-- ARGV[2]: cursor  ARGV[3]: page size  ARGV[4]: MessagePack of worker tokens
-- Reply: {next cursor, {id, look ...}}
local wanted, found = {}, {}
for _, worker in ipairs(cmsgpack.unpack(ARGV[4])) do wanted[worker] = true end
local page = call('HSCAN', root .. ':i', ARGV[2], 'COUNT', ARGV[3])
for k = 1, #page[2], 2 do
  if wanted[string.match(page[2][k + 1], '^%d+ %d+ (%S*)')] then
    local one = look(page[2][k], false)
    if one then
      found[#found + 1] = page[2][k]
      found[#found + 1] = one
    end
  end
end
return { page[1], found }
