-- include: clock
-- Marks every worker whose lease is over as swept. Reply: {token, {queues}, token ...} of all swept
-- workers that may still hold tasks, those of earlier rounds included.
--   pending  SET of their tokens
for _, token in ipairs(call('ZRANGEBYSCORE', root .. ':w', 0, whole(now), 'LIMIT', 0, 1000)) do
  call('HDEL', root .. ':workers', token)
  call('ZADD', root .. ':w', whole(-now), token)
  call('SADD', root .. ':pending', token)
end
call('ZREMRANGEBYSCORE', root .. ':w', whole(7 * RETENTION_MS - now), '(0')
local answers = {}
for _, token in ipairs(call('SMEMBERS', root .. ':pending')) do
  answers[#answers + 1] = token
  answers[#answers + 1] = call('SMEMBERS', root .. ':wq:' .. token)
end
return answers
