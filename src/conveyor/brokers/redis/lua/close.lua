-- include: clock
-- Closes a limit or one gate of it, or opens it again.
-- ARGV[2] gate id or name of the limit  ARGV[3] until when, in seconds or inf; '' to open it
-- ARGV[4] the packed pause  ARGV[5] '1': only for longer than it is closed already
-- Reply: 1 if it opens earlier than it would have
local field, till = ARGV[2], ARGV[3]
local before = call('ZSCORE', shared .. 'shut', field)
if till == '' then
  call('ZREM', shared .. 'shut', field)
  call('HDEL', shared .. 'why', field)
  return before and 1 or 0
end
if before and ARGV[5] == '1' and (before == 'inf' or tonumber(before) >= (tonumber(till) or math.huge)) then
  return 0
end
-- The removal lets the script through when memory is full.
call('HDEL', shared .. 'why', field)
call('ZADD', shared .. 'shut', till, field)
call('HSET', shared .. 'why', field, ARGV[4])
if not before then return 0 end
return (till ~= 'inf' and (before == 'inf' or tonumber(before) > tonumber(till))) and 1 or 0
