-- Where tasks wait.
--   q:0 .. q:9  LIST per priority, oldest first; an item is the id, followed by six bytes with the
--               time it became available when that is not the time in the id
--   due         ZSET id + priority digit -> ms
local function wait(id, priority, since)
  call('RPUSH', root .. ':q:' .. priority, id .. six(since))
end

local function schedule(id, priority, due)
  call('ZADD', root .. ':due', whole(due), id .. priority)
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
    local priority = string.sub(member, 17)
    local list = lists[priority]
    if not list then
      list = {}
      lists[priority] = list
    end
    members[#members + 1] = member
    list[#list + 1] = string.sub(member, 1, 16) .. six(tonumber(due[k + 1]))
  end
  call('ZREM', key, unpack(members))
  for priority, list in pairs(lists) do
    call('RPUSH', root .. ':q:' .. priority, unpack(list))
  end
  head = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return #members, tonumber(head[2])
end
