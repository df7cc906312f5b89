-- include: clock bucket
-- What the successes of a queue weigh. Reply: {bucket, bytes, bucket ...}, oldest first; the bytes
-- are the server's estimate, tasks included.
local weights = {}
for _, prefix in ipairs(call('ZRANGE', root .. ':jb', 0, -1)) do
  local successes, tasks = bucket(':f:', prefix), bucket(':j:', prefix)
  local number = call('HLEN', successes)
  if number > 0 then
    local share = number / math.max(1, call('HLEN', tasks))
    local bytes = call('MEMORY', 'USAGE', successes) + call('MEMORY', 'USAGE', tasks) * share
    weights[#weights + 1] = prefix
    weights[#weights + 1] = whole(bytes)
  end
end
return weights
