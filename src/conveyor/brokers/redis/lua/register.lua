-- include: clock
-- Numbers queues in the order they were first used. ARGV[2]: MessagePack of the names
--   queues  ZSET name -> number
for _, name in ipairs(cmsgpack.unpack(ARGV[2])) do
  if not call('ZSCORE', root .. ':queues', name) then
    call('ZADD', root .. ':queues', call('ZCARD', root .. ':queues') + 1, name)
  end
end
return 1
