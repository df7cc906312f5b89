-- include: clock ids bucket tell ring
-- Stores new plain tasks of one queue, in none of which is a key or a due time: all of them, or (an
-- error at the first write) none. push_each.lua is for all others.
--   ARGV[2] ids, joined  ARGV[3] a digit for each: its priority  ARGV[4] the tasks, joined
--   ARGV[5] MessagePack of their lengths  ARGV[6] the first six bytes of the smallest id and of the
--   largest one  ARGV[7] '1' when all ids belong to one bucket
-- Reply: {1 if the queue was not known here, {}}. What was stored by an earlier try stays (D2).
local NEAR_MS = 100
local unknown = call('EXISTS', root .. ':ev') == 0 and 1 or 0

-- What items in the lists carry besides their ids: nothing, when those tell the time well enough.
local function stamp()
  local oldest, newest = struct.unpack('>I6I6', ARGV[6])
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
  local suffix, priorities, lists, number = stamp(), ARGV[3], {}, 0
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
  if not repeated then tell('q0', ARGV[2], number) end
  return number
end

local function push_plain()
  local ids, lengths, fields, at = split(ARGV[2], 16), cmsgpack.unpack(ARGV[5]), {}, 1
  for k, id in ipairs(ids) do
    fields[2 * k - 1] = id
    fields[2 * k] = string.sub(ARGV[4], at, at + lengths[k] - 1)
    at = at + lengths[k]
  end
  if ARGV[7] == '1' then return queue_up(ids, store(string.sub(ids[1], 1, 4), ids, fields)) end
  return queue_up(ids, store_by_bucket(ids, fields))
end

local available = push_plain()
publish()
ring(available)
return { unknown, {} }
