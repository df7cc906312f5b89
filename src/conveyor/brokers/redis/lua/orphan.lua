-- include: clock
-- Counts workers as swept of whose lease the namespace knows nothing, though a queue has a copy of it:
-- in a cluster, the node with the namespace may have failed over and lost the last moments. Without
-- this, nobody would look for what they held. ARGV[2] queue  ARGV[3] MessagePack of their tokens
for _, worker in ipairs(cmsgpack.unpack(ARGV[3])) do
  if not call('ZSCORE', root .. ':w', worker) then
    call('ZADD', root .. ':w', whole(-now), worker)
    call('SADD', root .. ':pending', worker)
    call('SADD', root .. ':wq:' .. worker, ARGV[2])
  end
end
return 1
