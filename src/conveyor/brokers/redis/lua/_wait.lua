-- Where tasks wait.
--   q:0 .. q:9  LIST per priority, oldest first; an item is the id, followed by six bytes with the
--               time it became available when that is not the time in the id
--   due         ZSET id + priority digit + lane, if it has one -> ms
local PLAIN_BYTES = 17

-- `terms`: nil for a plain task. One that comes back and kept its slot goes first in its lane. Returns
-- how many became available.
local function wait(id, priority, since, terms)
  if terms and terms[LANE] ~= '' then
    return join(id, priority, terms[LANE], since, keeps_slot(id, terms))
  end
  call('RPUSH', root .. ':q:' .. priority, id .. six(since))
  return 1
end

local function schedule(id, priority, due, terms)
  call('ZADD', root .. ':due', whole(due), due_member(id, priority, terms))
end

-- The lane of a task that kept a slot has to know it, and that is in its record.
local function promote_gated(member, since)
  local id = string.sub(member, 1, 16)
  local packed = call('HGET', tasks_of(id), id)
  if not packed then return end
  local task = fields_of(packed, TERMS)
  wait(id, task[PRIORITY], since, task[TERMS])
end

-- Moves at most `limit` due tasks to their lists. Returns how many, and when the next one is due.
local function promote(limit)
  local key = root .. ':due'
  local head = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if not head[2] or tonumber(head[2]) > now then return 0, tonumber(head[2]) end
  local due = call('ZRANGEBYSCORE', key, '-inf', whole(now), 'WITHSCORES', 'LIMIT', 0, limit)
  local members, lists = {}, {}
  for k = 1, #due, 2 do
    local member = due[k]
    members[#members + 1] = member
    if #member > PLAIN_BYTES then
      promote_gated(member, tonumber(due[k + 1]))
    else
      local priority = string.sub(member, PLAIN_BYTES)
      local list = lists[priority]
      if not list then
        list = {}
        lists[priority] = list
      end
      list[#list + 1] = string.sub(member, 1, 16) .. six(tonumber(due[k + 1]))
    end
  end
  call('ZREM', key, unpack(members))
  for priority, list in pairs(lists) do
    call('RPUSH', root .. ':q:' .. priority, unpack(list))
  end
  head = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return #members, tonumber(head[2])
end
