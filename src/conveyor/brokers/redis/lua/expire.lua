-- include: clock
-- Lets buckets of successes end now: `tidy` prunes them next. ARGV[2]: MessagePack of the buckets
for _, prefix in ipairs(cmsgpack.unpack(ARGV[2])) do
  call('ZADD', root .. ':fb', 'XX', whole(now), prefix)
end
return 1
