-- include: clock
-- Stores notes of running executions, each only under the number that runs now.
-- ARGV[2]: MessagePack of {{id, execution number, packed note} ...}   Reply: {1 or 0 ...}
local stored = {}
for k, note in ipairs(cmsgpack.unpack(ARGV[2])) do
  local hold = call('HGET', root .. ':i', note[1])
  local current = hold and string.match(hold, '^%d+') == tostring(note[2])
  if current then call('HSET', root .. ':notes', note[1], note[2] .. ' ' .. note[3]) end
  stored[k] = current and 1 or 0
end
return stored
