-- include: clock ids bucket tell ring wait
-- Stores new tasks of one queue: all of them, or (an error at the first write) none.
-- The fast way, for pushes in which no task has a key or a due time:
--   ARGV[2] ''  ARGV[3] ids, joined  ARGV[4] a digit for each: its priority  ARGV[5] the tasks, joined
--   ARGV[6] MessagePack of their lengths  ARGV[7] the first six bytes of the smallest id and of the
--   largest one  ARGV[8] '1' when all ids belong to one bucket
-- The other way: ARGV[2] MessagePack of {id, priority, task, delay in ms or -1, due in ms or -1,
--   key field or '', digest} ..., in the order of the push
-- Reply: {1 if the queue was not known here, {place, id of the key's owner, 1 if its arguments
-- differ, place ...}}. Whatever is not named there is stored, now or by an earlier try (D2).
local NEAR_MS = 100
local unknown = call('EXISTS', root .. ':ev') == 0 and 1 or 0
local answers, soon = {}, 0

local function note_bucket(prefix)
  local number = struct.unpack('>I4', prefix)
  call('ZADD', root .. ':jb', whole(number), prefix)
end

-- What items in the lists carry besides their ids: nothing, when those tell the time well enough.
local function stamp()
  local oldest, newest = struct.unpack('>I6I6', ARGV[7])
  if now - oldest <= NEAR_MS and newest - now <= NEAR_MS then return nil end
  return six(now)
end

-- Stores tasks of one bucket. Returns the set of ids that were there before, nil when none was.
local function store(prefix, ids, fields)
  local key = bucket(':j:', prefix)
  local before, repeated = call('HMGET', key, unpack(ids)), nil
  for k, id in ipairs(ids) do
    if before[k] then
      repeated = repeated or {}
      repeated[id] = true
    end
  end
  if repeated then
    local fresh = {}
    for k = 1, #fields, 2 do
      if not repeated[fields[k]] then
        fresh[#fresh + 1] = fields[k]
        fresh[#fresh + 1] = fields[k + 1]
      end
    end
    fields = fresh
  end
  if #fields > 0 then
    call('HSET', key, unpack(fields))
    note_bucket(prefix)
  end
  return repeated
end

local function store_by_bucket(ids, fields)
  local groups, repeated = {}, nil
  for k, id in ipairs(ids) do
    local prefix = string.sub(id, 1, 4)
    local group = groups[prefix]
    if not group then
      group = { ids = {}, fields = {} }
      groups[prefix] = group
    end
    group.ids[#group.ids + 1] = id
    group.fields[#group.fields + 1] = id
    group.fields[#group.fields + 1] = fields[2 * k]
  end
  for prefix, group in pairs(groups) do
    for id in pairs(store(prefix, group.ids, group.fields) or {}) do
      repeated = repeated or {}
      repeated[id] = true
    end
  end
  return repeated
end

-- Returns how many became available.
local function queue_up(ids, repeated)
  local suffix, priorities, lists, number = stamp(), ARGV[4], {}, 0
  for k, id in ipairs(ids) do
    if not (repeated and repeated[id]) then
      local priority = string.sub(priorities, k, k)
      local list = lists[priority]
      if not list then
        list = {}
        lists[priority] = list
      end
      list[#list + 1] = suffix and id .. suffix or id
      number = number + 1
      if repeated then tell('q0', id, 1) end
    end
  end
  for priority, list in pairs(lists) do
    call('RPUSH', root .. ':q:' .. priority, unpack(list))
  end
  if not repeated then tell('q0', ARGV[3], number) end
  return number
end

local function push_plain()
  local ids, lengths, fields, at = split(ARGV[3], 16), cmsgpack.unpack(ARGV[6]), {}, 1
  for k, id in ipairs(ids) do
    fields[2 * k - 1] = id
    fields[2 * k] = string.sub(ARGV[5], at, at + lengths[k] - 1)
    at = at + lengths[k]
  end
  if ARGV[8] == '1' then return queue_up(ids, store(string.sub(ids[1], 1, 4), ids, fields)) end
  return queue_up(ids, store_by_bucket(ids, fields))
end

-- Returns the id that owns the key, and its digest; nothing when it is free.
local function key_owner(field)
  local owner = call('HGET', root .. ':keys', field)
  if not owner then return nil end
  local till = call('ZSCORE', root .. ':kx', field)
  if till and tonumber(till) <= now then return nil end
  return string.sub(owner, 1, 16), string.sub(owner, 17)
end

local function push_entry(place, entry)
  local id, priority, task, delay, due = entry[1], entry[2], entry[3], entry[4], entry[5]
  local field, digest, key = entry[6], entry[7], tasks_of(id)
  if call('HEXISTS', key, id) == 1 then return 0 end
  if field ~= '' then
    local owner, its_digest = key_owner(field)
    if owner then
      answers[#answers + 1] = place
      answers[#answers + 1] = owner
      answers[#answers + 1] = its_digest == digest and 0 or 1
      return 0
    end
  end
  call('HSET', key, id, task)
  note_bucket(string.sub(id, 1, 4))
  if field ~= '' then
    call('HSET', root .. ':keys', field, id .. digest)
    call('ZREM', root .. ':kx', field)
  end
  if delay >= 0 then due = now + delay end
  if due > now then
    schedule(id, priority, due)
    tell('d0', id, 1)
    if due - now < 1000 then soon = 1 end
    return 0
  end
  wait(id, priority, now)
  tell('q0', id, 1)
  return 1
end

local available = 0
if ARGV[2] == '' then
  available = push_plain()
else
  for place, entry in ipairs(cmsgpack.unpack(ARGV[2])) do
    available = available + push_entry(place, entry)
  end
end
publish()
ring(math.max(available, soon))
return { unknown, answers }
