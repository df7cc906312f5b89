-- include: clock ids fields terms bucket tell ring unique wait finish look
-- lanes: gates lanes end
-- Stores new tasks of one queue that have keys, due times or terms, and their neighbours: all of them,
-- or (an error at the first write) none.
-- ARGV[2]: MessagePack of {id, priority, task, delay in ms or -1, due in ms or -1, key field or '',
--   digest, name, terms if it has some that matter here} ..., in the order of the push
-- Reply: {1 if the queue was not known here, {place, id of the owner of its key, 1 if that is an error,
-- place ...}}. Whatever is not named there is stored, now or by an earlier try (D2).
local unknown = call('EXISTS', root .. ':ev') == 0 and 1 or 0
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

local function text_of(id)
  local hex = string.gsub(id, '.', function(byte) return string.format('%02x', string.byte(byte)) end)
  return table.concat({
    string.sub(hex, 1, 8), string.sub(hex, 9, 12), string.sub(hex, 13, 16), string.sub(hex, 17, 20),
    string.sub(hex, 21),
  }, '-')
end

-- The record of a holder that waits, so that another may take its place.
local function waiting_record(id)
  local packed = call('HGET', tasks_of(id), id)
  if not packed then return nil end
  local letter = place_of(id, packed)
  return (letter == 'q' or letter == 'd' or letter == 'p') and packed
end

-- Returns the owner if it keeps the key, else when the series began that this task goes on with.
local function contend(id, field, unique)
  local owner, began = holder_of(field)
  if not owner then return nil, now end
  local packed = unique[ON_CONFLICT] == 'replace' and waiting_record(owner)
  if not packed then return owner end
  local flag = cmsgpack.pack({ '', 'replaced by ' .. text_of(id) })
  lanes().end_waiting(owner, packed, 'c', flag)
  return nil, began
end

local function debounced(unique, began)
  local due = now + 1000 * unique[SECONDS]
  if unique[LONGEST] > 0 then due = math.min(due, began + 1000 * unique[LONGEST]) end
  return due
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
  local unique = terms and terms[UNIQUE]
  if unique then
    local unique_field = key_field(entry[8], unique[U_KEY])
    local owner, began = contend(id, unique_field, unique)
    if owner then
      refuse(place, owner, unique[ON_CONFLICT] == 'raise')
      return 0
    end
    hold_unique(unique_field, id, unique, began)
    if unique[DEBOUNCE] then due = debounced(unique, began) end
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

local available = 0
for place, entry in ipairs(cmsgpack.unpack(ARGV[2])) do
  available = available + push_entry(place, entry)
end
publish()
ring(math.max(available, soon, lanes_made and lanes_made.ring_elsewhere() or 0))
return { unknown, answers }
