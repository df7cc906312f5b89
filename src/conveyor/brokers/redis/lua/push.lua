-- include: clock bucket tell ring wait
-- Stores new tasks of one queue: all of them, or (an error at the first write) none.
-- ARGV[2]: MessagePack of {oldest, newest, groups, ready, entries}
--   oldest, newest: the first six bytes of the smallest and largest id
--   groups: {bucket, ids, {id, task, id, task ...}} and ready: {priority, ids, ids as one string};
--     the fast way, for pushes in which no task has a key or a due time
--   entries: {id, priority, task, delay in ms or -1, due in ms or -1, key field or '', digest}, in
--     the order of the push; the way for all others
-- Reply: {1 if the queue was not known here, {place, id of the key's owner, 1 if its arguments
-- differ, place ...}}. Whatever is not named there is stored, now or by an earlier try (D2).
local NEAR_MS = 100
local batch = cmsgpack.unpack(ARGV[2])
local unknown = call('EXISTS', root .. ':ev') == 0 and 1 or 0
local answers, soon = {}, 0

local function note_bucket(prefix)
  local number = struct.unpack('>I4', prefix)
  call('ZADD', root .. ':jb', whole(number), prefix)
end

-- Items carry the time they became available, unless their ids tell it well enough.
local function stamp()
  local oldest, newest = struct.unpack('>I6', batch[1]), struct.unpack('>I6', batch[2])
  if now - oldest <= NEAR_MS and newest - now <= NEAR_MS then return nil end
  return six(now)
end

local function store_group(prefix, ids, fields)
  local key = bucket(':j:', prefix)
  local before, repeated = call('HMGET', key, unpack(ids)), nil
  for k, id in ipairs(ids) do
    if before[k] then
      repeated = repeated or {}
      repeated[id] = true
    end
  end
  if not repeated then
    call('HSET', key, unpack(fields))
    note_bucket(prefix)
    return nil
  end
  local fresh = {}
  for k = 1, #fields, 2 do
    if not repeated[fields[k]] then
      fresh[#fresh + 1] = fields[k]
      fresh[#fresh + 1] = fields[k + 1]
    end
  end
  if #fresh > 0 then
    call('HSET', key, unpack(fresh))
    note_bucket(prefix)
  end
  return repeated
end

local function queue_up(priority, ids, joined, repeated, suffix)
  if repeated or suffix then
    local items, fresh = {}, {}
    for _, id in ipairs(ids) do
      if not (repeated and repeated[id]) then
        fresh[#fresh + 1] = id
        items[#items + 1] = suffix and id .. suffix or id
      end
    end
    if #items == 0 then return 0 end
    ids, joined = items, table.concat(fresh)
  end
  call('RPUSH', root .. ':q:' .. priority, unpack(ids))
  tell('q0', joined, #ids)
  return #ids
end

local function push_plain()
  local repeated, suffix, number = nil, stamp(), 0
  for _, group in ipairs(batch[3]) do
    local again = store_group(group[1], group[2], group[3])
    for id in pairs(again or {}) do
      repeated = repeated or {}
      repeated[id] = true
    end
  end
  for _, list in ipairs(batch[4]) do
    number = number + queue_up(list[1], list[2], list[3], repeated, suffix)
  end
  return number
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
    if due - now < 1000 then soon = soon + 1 end
    return 0
  end
  wait(id, priority, now)
  tell('q0', id, 1)
  return 1
end

local available = 0
if #batch[3] > 0 then available = push_plain() end
for place, entry in ipairs(batch[5]) do available = available + push_entry(place, entry) end
publish()
ring(math.max(available, math.min(soon, 1)))
return { unknown, answers }
