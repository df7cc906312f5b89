-- include: clock ids fields terms bucket unique finish
-- Deletes dead letters, with the keys they own: a key must not name what is no more.
-- ARGV[2]: ids, joined   Reply: the places of those that were deleted
local deleted = {}

local function let_go_of_keys(id)
  local task = fields_of(call('HGET', tasks_of(id), id), TERMS)
  local terms = asking(task[TERMS])
  if terms and terms[UNIQUE] then free_unique(key_field(task[NAME], terms[UNIQUE][U_KEY]), id) end
  if not task[KEY] then return end
  local field = key_field(task[NAME], task[KEY])
  local owner = call('HGET', root .. ':keys', field)
  if owner and string.sub(owner, 1, 16) == id then
    call('HDEL', root .. ':keys', field)
    call('ZREM', root .. ':kx', field)
  end
end

for place, id in ipairs(split(ARGV[2], 16)) do
  if call('HDEL', root .. ':failed', id) + call('HDEL', root .. ':cancelled', id) > 0 then
    call('ZREM', root .. ':dx', id)
    let_go_of_keys(id)
    call('HDEL', tasks_of(id), id)
    unlist_if_empty(string.sub(id, 1, 4))
    deleted[#deleted + 1] = place
  end
end
return deleted
