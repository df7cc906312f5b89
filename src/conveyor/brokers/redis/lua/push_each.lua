-- include: clock bucket tell ring wait finish
-- lanes: fields terms unique gates rooms slots lanes end look unite
-- Stores new tasks of one queue that have keys, due times or terms, and their neighbours: all of them,
-- or (an error at the first write) none.
-- ARGV[2]: MessagePack of {id, priority, task, delay in ms or -1, due in ms or -1, key field or '',
--   digest, name, terms if it has some that matter here} ..., in the order of the push
-- Reply: {1 if the queue was not known here, {place, id of the owner of its key, 1 if that is an error,
-- place ...}}. Whatever is not named there is stored, now or by an earlier try (D2).
local unknown = call('EXISTS', root .. ':ev') == 0 and 1 or 0
local LANE_NAME, UNIQUE_RULE = 3, 4
local answers, soon = {}, 0

local function refuse(place, owner, is_error)
  answers[#answers + 1] = place
  answers[#answers + 1] = owner
  answers[#answers + 1] = is_error and 1 or 0
end

-- Returns the id that owns the idempotency key, and its digest; nothing when it is free.
local function key_owner(field)
  local owner = call('HGET', root .. ':keys', field)
  if not owner then return nil end
  local till = call('ZSCORE', root .. ':kx', field)
  if till and tonumber(till) <= now then return nil end
  return string.sub(owner, 1, 16), string.sub(owner, 17)
end

local function take_key(field, id, digest)
  call('HSET', root .. ':keys', field, id .. digest)
  call('ZREM', root .. ':kx', field)
end

local function push_entry(place, entry)
  local id, priority, task, delay, due = entry[1], entry[2], entry[3], entry[4], entry[5]
  local field, digest, terms, key = entry[6], entry[7], entry[9], tasks_of(id)
  if call('HEXISTS', key, id) == 1 then return 0 end
  if delay >= 0 then due = now + delay end
  if field ~= '' then
    local owner, its_digest = key_owner(field)
    if owner then
      refuse(place, owner, its_digest ~= digest)
      return 0
    end
  end
  local unique = terms and terms[UNIQUE_RULE]
  if unique then
    local owner, is_error, its_due = lanes().unite(id, entry[8], unique)
    if owner then
      refuse(place, owner, is_error)
      return 0
    end
    due = its_due or due
  end
  call('HSET', key, id, task)
  note_bucket(string.sub(id, 1, 4))
  if field ~= '' then take_key(field, id, digest) end
  if due > now then
    schedule(id, priority, due, terms)
    tell('d0', id, 1)
    if due - now < 1000 then soon = 1 end
    return 0
  end
  tell('q0', id, 1)
  return wait(id, priority, now, terms)
end

local function is_simple(entry)
  local terms = entry[9]
  return entry[6] == '' and entry[4] < 0 and entry[5] < 0 and terms and terms[LANE_NAME] ~= '' and not terms[UNIQUE_RULE]
end

-- Tasks by what is asked of each, in the order in which that came first.
local function group_by(entries, what)
  local groups, order = {}, {}
  for _, entry in ipairs(entries) do
    local name = what(entry)
    local group = groups[name]
    if not group then
      group = { name = name, priority = entry[2], ids = {}, fields = {} }
      groups[name] = group
      order[#order + 1] = group
    end
    local ids, fields = group.ids, group.fields
    ids[#ids + 1] = entry[1]
    fields[#fields + 1] = entry[1]
    fields[#fields + 1] = entry[3]
  end
  return order
end

-- Stores tasks that are all new, start now and wait in lanes, a bucket and a lane at a time. Returns how
-- many became available, nil when they have to be taken one by one: then nothing was written.
local function push_at_once(entries)
  local seen, all = {}, {}
  for k, entry in ipairs(entries) do
    local id = entry[1]
    if seen[id] or not is_simple(entry) then return nil end
    seen[id], all[k] = true, id
  end
  local buckets = group_by(entries, function(entry) return string.sub(entry[1], 1, 4) end)
  for _, group in ipairs(buckets) do
    for _, before in ipairs(call('HMGET', bucket(':j:', group.name), unpack(group.ids))) do
      if before then return nil end
    end
  end
  for _, group in ipairs(buckets) do
    call('HSET', bucket(':j:', group.name), unpack(group.fields))
    note_bucket(group.name)
  end
  tell('q0', table.concat(all), #all)
  local groups = group_by(entries, function(entry) return entry[9][LANE_NAME] end)
  return lanes().join_lanes(groups, now)
end

local function push_all(entries)
  local available = push_at_once(entries)
  if available then return available end
  available = 0
  for place, entry in ipairs(entries) do available = available + push_entry(place, entry) end
  return available
end

local available = push_all(cmsgpack.unpack(ARGV[2]))
publish()
ring(math.max(available, soon, lanes_made and lanes_made.ring_elsewhere() or 0))
return { unknown, answers }
