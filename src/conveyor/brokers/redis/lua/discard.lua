-- include: clock bucket finish
-- Deletes dead letters, with the keys they own: a key must not name what is no more.
-- ARGV[2]: MessagePack of the ids   Reply: the places of those that were deleted
local deleted = {}

local function let_go_of_key(id)
  local task = cmsgpack.unpack(call('HGET', tasks_of(id), id))
  if not task[11] then return end
  local field = key_field(task[2], task[11])
  local owner = call('HGET', root .. ':keys', field)
  if owner and string.sub(owner, 1, 16) == id then
    call('HDEL', root .. ':keys', field)
    call('ZREM', root .. ':kx', field)
  end
end

for place, id in ipairs(cmsgpack.unpack(ARGV[2])) do
  if call('HDEL', root .. ':failed', id) + call('HDEL', root .. ':cancelled', id) > 0 then
    call('ZREM', root .. ':dx', id)
    let_go_of_key(id)
    call('HDEL', tasks_of(id), id)
    deleted[#deleted + 1] = place
  end
end
return deleted
