-- include: clock
-- Renews leases. ARGV[2]: MessagePack of {token, ms, 1 if its lease was made before, packed info or ''}
-- Keys of the namespace:
--   w           ZSET token -> end of its lease in ms; minus the time it was swept
--   workers     HASH token -> packed WorkerInfo
--   wq:<token>  SET of queues that have a copy of the lease, and may have tasks it holds
-- Reply: {{1 if alive, end of the lease, {queues}} ...}
local answers = {}

local function renew(token, ms, known, info)
  local key, before = root .. ':w', call('ZSCORE', root .. ':w', token)
  -- Swept; or made before and gone, because the server was emptied or failed over without it. What
  -- it may still hold is found by `tidy`, see orphan.lua.
  if (before and tonumber(before) < 0) or (not before and known == 1) then return { 0, '0', {} } end
  local till = whole(now + ms)
  -- The removal lets the script through when memory is full: leases must be kept even then.
  call('ZREM', key, token)
  call('ZADD', key, till, token)
  if info ~= '' then call('HSET', root .. ':workers', token, info) end
  return { 1, till, call('SMEMBERS', root .. ':wq:' .. token) }
end

for k, one in ipairs(cmsgpack.unpack(ARGV[2])) do
  answers[k] = renew(one[1], one[2], one[3], one[4])
end
return answers
