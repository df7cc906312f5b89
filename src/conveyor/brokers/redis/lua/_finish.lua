-- The end of a task.
--   failed, cancelled  HASH id -> ending, the dead letters
--   skipped            HASH id -> ending, of tasks that a limit dropped
--   dx                 ZSET id -> ms when a dead letter or a skipped task is pruned
--   m                  HASH id -> "<last execution number> <msgpack of Touched>", only for living
--                      tasks that were leased before
--   x:<id>             LIST of earlier executions, only for living tasks that have some
--   keys, kx           HASH "<length of name>:<name><key>" -> id + digest, ZSET key -> ms when free
-- An ending is six bytes of time and the MessagePack of `records.Ending`: Python packs its first five
-- fields, the script appends two: the earlier executions and the cancellation. Nothing is unpacked.
local NONE, EMPTY, OPEN_FIVE, SEVEN = '\192', '\144', '\149', '\151'

local function array_of(blobs)
  if #blobs == 0 then return EMPTY end
  return '\221' .. struct.pack('>I4', #blobs) .. table.concat(blobs)
end

local function free_key_later(id, field)
  local owner = call('HGET', root .. ':keys', field)
  if owner and string.sub(owner, 1, 16) == id then
    call('ZADD', root .. ':kx', whole(now + RETENTION_MS), field)
  end
end

local function keep_bucket(prefix, till)
  call('ZADD', root .. ':fb', 'GT', whole(till), prefix)
end

local DEAD = { f = ':failed', c = ':cancelled', k = ':skipped' }

-- letter: s, f, c or k. five: the packed first fields. flag: packed cancellation or nil.
local function finish(id, letter, five, flag, field, keep_ms)
  local history = root .. ':x:' .. id
  local earlier = call('LRANGE', history, 0, -1)
  if #earlier > 0 then call('DEL', history) end
  call('HDEL', root .. ':m', id)
  local ending = six(now) .. SEVEN .. string.sub(five, 2) .. array_of(earlier) .. (flag or NONE)
  if letter == 's' then
    call('HSET', successes_of(id), id, ending)
    keep_bucket(string.sub(id, 1, 4), now + keep_ms)
  else
    call('HSET', root .. DEAD[letter], id, ending)
    call('ZADD', root .. ':dx', whole(now + (letter == 'k' and RETENTION_MS or DEAD_RETENTION_MS)), id)
  end
  if field ~= '' then free_key_later(id, field) end
end
