-- Where tasks wait.
--   q:0 .. q:9  LIST per priority, oldest first; an item is the id, followed by six bytes with the
--               time it became available when that is not the time in the id
--   due         ZSET id + priority digit + lane, if it has one -> ms
local PLAIN_BYTES = 17

-- `terms`: nil for a plain task. Returns how many became available.
local function wait(id, priority, since, terms)
  if terms then return lanes().wait_in_lane(id, priority, since, terms) end
  call('RPUSH', root .. ':q:' .. priority, id .. six(since))
  return 1
end

local function schedule(id, priority, due, terms)
  local member = terms and lanes().due_member(id, priority, terms) or id .. priority
  call('ZADD', root .. ':due', whole(due), member)
end

-- Tells that they wait now. Those that ran before are told with the number of that execution.
local function tell_promoted(ids)
  local touched, fresh = call('EXISTS', root .. ':m') == 1 and call('HMGET', root .. ':m', unpack(ids)), {}
  for k, id in ipairs(ids) do
    local before = touched and touched[k]
    if before then
      tell('q' .. string.match(before, '^%d+'), id, 1)
    else
      fresh[#fresh + 1] = id
    end
  end
  if #fresh > 0 then tell('q0', table.concat(fresh), #fresh) end
end

-- Moves at most `limit` due tasks to their lists. Returns how many, and when the next one is due.
local function promote(limit)
  local key = root .. ':due'
  local head = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if not head[2] or tonumber(head[2]) > now then return 0, tonumber(head[2]) end
  local due = call('ZRANGEBYSCORE', key, '-inf', whole(now), 'WITHSCORES', 'LIMIT', 0, limit)
  local members, ids, lists, gated = {}, {}, {}, {}
  for k = 1, #due, 2 do
    local member = due[k]
    members[#members + 1] = member
    ids[#ids + 1] = string.sub(member, 1, 16)
    if #member > PLAIN_BYTES then
      gated[#gated + 1] = k
    else
      local priority = string.sub(member, PLAIN_BYTES)
      local list = lists[priority]
      if not list then
        list = {}
        lists[priority] = list
      end
      list[#list + 1] = ids[#ids] .. six(tonumber(due[k + 1]))
    end
  end
  call('ZREM', key, unpack(members))
  for _, k in ipairs(gated) do lanes().promote_gated(due[k], tonumber(due[k + 1])) end
  for priority, list in pairs(lists) do
    call('RPUSH', root .. ':q:' .. priority, unpack(list))
  end
  tell_promoted(ids)
  head = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return #members, tonumber(head[2])
end
