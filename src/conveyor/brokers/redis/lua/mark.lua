-- include: clock
-- Tells a queue which workers were swept, for good. ARGV[2]: MessagePack of their tokens
for _, worker in ipairs(cmsgpack.unpack(ARGV[2])) do
  call('SREM', root .. ':idle', worker)
  call('DEL', root .. ':wake:' .. worker, root .. ':cw:' .. worker)
  call('ZADD', root .. ':w', whole(-now), worker)
end
return 1
