-- include: clock
-- Puts numbers in place of those that tasks carry. ARGV[2] limit  ARGV[3] rate or -  ARGV[4] most or -
-- When they are taken back a field stays: `doctor` has to know that more slots were allowed before.
call('HSET', shared .. 'tuned', ARGV[2], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. whole(now))
return 1
