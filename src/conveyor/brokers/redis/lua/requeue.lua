-- include: clock fields terms bucket tell ring unique wait finish
-- lanes: gates rooms slots lanes
-- Gives dead letters another life, and makes scheduled tasks due now.
-- ARGV[2]: MessagePack of {id, '' for a scheduled task or else the SHA-1 of the ending that was read,
-- last execution number, {packed executions}} ...   Reply: the places of those that changed
-- The executions are inside the ending, which only Python unpacks: it has read it before, and the sum
-- makes sure that it is still the same one.
local changed, available = {}, 0

-- A key whose owner is another task by now stays with that one.
local function take_key_back(id, name, key, digest)
  local field = key_field(name, key)
  local owner = call('HGET', root .. ':keys', field)
  local till = owner and call('ZSCORE', root .. ':kx', field)
  local free = not owner or (till and tonumber(till) <= now)
  if free then call('HSET', root .. ':keys', field, id .. (digest or '')) end
  if free or string.sub(owner, 1, 16) == id then call('ZREM', root .. ':kx', field) end
end

local function revive(id, sum, number, executions, task, terms)
  local place = root .. ':failed'
  local ending = call('HGET', place, id)
  if not ending then
    place = root .. ':cancelled'
    ending = call('HGET', place, id)
  end
  if not ending or redis.sha1hex(ending) ~= sum then return false end
  call('HDEL', place, id)
  call('ZREM', root .. ':dx', id)
  if number > 0 then call('HSET', root .. ':m', id, number .. ' ' .. EMPTY) end
  for _, execution in ipairs(executions) do call('RPUSH', root .. ':x:' .. id, execution) end
  if task[KEY] then take_key_back(id, task[NAME], task[KEY], task[DIGEST]) end
  local unique = terms and terms[UNIQUE]
  if unique and unique[UNTIL] ~= 'period' then take_unique_back(id, task[NAME], unique) end
  return true
end

for place, entry in ipairs(cmsgpack.unpack(ARGV[2])) do
  local id, sum = entry[1], entry[2]
  local packed = call('HGET', tasks_of(id), id)
  local task = packed and fields_of(packed, TERMS)
  local terms = task and asking(task[TERMS])
  local done
  if not task then
    done = false
  elseif sum == '' then
    done = call('ZREM', root .. ':due', due_member(id, task[PRIORITY], terms)) == 1
  else
    done = revive(id, sum, entry[3], entry[4], task, terms)
  end
  if done then
    available = available + wait(id, task[PRIORITY], now, terms)
    tell('q' .. entry[3], id, 1)
    changed[#changed + 1] = place
  end
end
publish()
ring(available)
return changed
