-- Settlements: ARGV[6] MessagePack of {groups, others, gated if any}, '' when there are none.
--   groups: {number, ms to keep the bucket} of successes of first executions without a key, which are
--     most of all there is and are moved in bulk, by bucket. ARGV[7] their ids, joined  ARGV[8] the
--     packed first fields of their endings, joined  ARGV[9] MessagePack of the lengths of these
--   gated: {gate ids, how many of them have a slot of each, their ids joined in that order, {id, key
--     field ...} of those that give a unique key back}: what there is to free, gate by gate
--   others, in the order given: {id, execution number, letter, priority, delay in ms, first fields of
--     the ending (of a cancellation, should it live on though flagged), packed execution or '',
--     packed Touched, key field or '', ms to keep it, name, terms if it has some that matter here}
--     letters: s, f, c, k final; q queued again, d scheduled, p parked
--   c       HASH id -> worker + "\n" + packed cancellation, of running tasks asked to stop
--   notes   HASH id -> "<execution number> <packed Note>"
--   p:<name>, pn   ZSET of parked ids by time, SET of the names that have some
-- A removal comes first everywhere: a script that began with one is let through when memory is full,
-- so that workers go on settling while producers are told so.
local KEPT_EXECUTIONS = 1000
local refused = {}
local has_flags, has_notes

-- `at` is where the endings of this group begin in ARGV[8]. Returns where they end.
local function settle_firsts(ids, lengths, keep_ms, at)
  local holds = call('HMGET', root .. ':i', unpack(ids))
  local stamp, packed = six(now), ARGV[8]
  local endings, fine, n = {}, {}, 0
  for k, id in ipairs(ids) do
    local hold, till = holds[k], at + lengths[k]
    if hold and string.sub(hold, 1, 2) == '1 ' then
      n = n + 1
      fine[n] = id
      endings[2 * n - 1] = id
      endings[2 * n] = stamp .. string.sub(packed, at, till - 1)
    else
      refused[#refused + 1] = id
    end
    at = till
  end
  if n == 0 then return at end
  local prefix = string.sub(ids[1], 1, 4)
  call('HDEL', root .. ':i', unpack(fine))
  call('HSET', bucket(':f:', prefix), unpack(endings))
  keep_bucket(prefix, now + keep_ms)
  if has_notes then call('HDEL', root .. ':notes', unpack(fine)) end
  if has_flags then call('HDEL', root .. ':c', unpack(fine)) end
  tell('s1', table.concat(fine), n)
  return at
end

local function settle_groups(groups)
  local lengths, first, at = cmsgpack.unpack(ARGV[9]), 1, 1
  for _, group in ipairs(groups) do
    local number, mine, their_lengths = group[1], {}, {}
    for k = 1, number do
      local place = first + k - 1
      mine[k] = string.sub(ARGV[7], 16 * place - 15, 16 * place)
      their_lengths[k] = lengths[place]
    end
    at = settle_firsts(mine, their_lengths, group[2], at)
    first = first + number
  end
end

local function take_flag(id)
  local flag = has_flags and call('HGET', root .. ':c', id)
  if not flag then return nil end
  call('HDEL', root .. ':c', id)
  local worker, packed = string.match(flag, '^(.-)\n(.*)$')
  call('SREM', root .. ':cw:' .. worker, id)
  return packed
end

local function live_on(entry, letter)
  local id, number, priority, terms = entry[1], entry[2], entry[4], entry[12]
  call('HSET', root .. ':m', id, number .. ' ' .. entry[8])
  if entry[7] ~= '' then
    local history = root .. ':x:' .. id
    if call('RPUSH', history, entry[7]) > KEPT_EXECUTIONS then
      call('LTRIM', history, -KEPT_EXECUTIONS, -1)
    end
  end
  if terms then lanes().put_back(id, entry[11], terms) end
  if letter == 'd' then
    schedule(id, priority, now + entry[5], terms)
    tell('d' .. number, id, 1)
    return 0
  end
  tell('q' .. number, id, 1)
  if letter == 'p' then
    call('ZADD', root .. ':p:' .. entry[11], whole(now), id)
    call('SADD', root .. ':pn', entry[11])
    return 0
  end
  return wait(id, priority, now, terms)
end

-- Returns how many tasks became available.
local function settle_one(entry)
  local id, number, letter = entry[1], entry[2], entry[3]
  local hold = call('HGET', root .. ':i', id)
  if not hold or string.match(hold, '^%d+') ~= tostring(number) then
    refused[#refused + 1] = id
    return 0
  end
  call('HDEL', root .. ':i', id)
  if has_notes then call('HDEL', root .. ':notes', id) end
  local flag = take_flag(id)
  if letter == 's' or letter == 'f' or letter == 'c' or letter == 'k' or flag then
    if letter == 'q' or letter == 'd' or letter == 'p' then letter = 'c' end
    finish(id, letter, entry[6], flag, entry[9], entry[10])
    if entry[12] then lanes().let_go(id, entry[11], entry[12]) end
    tell(letter .. number, id, 1)
    return 0
  end
  return live_on(entry, letter)
end

local function let_gated_go(gated)
  local stale = {}
  for _, id in ipairs(refused) do stale[id] = true end
  lanes().free_keys(gated[4], stale)
  if #gated[1] > 0 then lanes().free_many(gated[1], gated[2], gated[3], stale) end
end

local function settle_all(settlements)
  has_flags = call('EXISTS', root .. ':c') == 1
  has_notes = call('EXISTS', root .. ':notes') == 1
  if #settlements[1] > 0 then settle_groups(settlements[1]) end
  if settlements[3] then let_gated_go(settlements[3]) end
  local released = 0
  for _, entry in ipairs(settlements[2]) do released = released + settle_one(entry) end
  return released
end
