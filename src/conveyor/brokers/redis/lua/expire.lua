-- include: clock ids
-- Lets buckets of successes end now: `tidy` prunes them next. ARGV[2]: their prefixes, joined
for _, prefix in ipairs(split(ARGV[2], 4)) do
  call('ZADD', root .. ':fb', 'XX', whole(now), prefix)
end
return 1
