-- include: clock
-- Takes, keeps or (0 ms) gives up a role. ARGV[2] role  ARGV[3] holder  ARGV[4] ms
--   lead:<role>  STRING "<ms it ends> <holder>"
-- Reply: now, or '' when somebody else has it
local key, holder, ms = root .. ':lead:' .. ARGV[2], ARGV[3], tonumber(ARGV[4])
local held = call('GET', key)
if held then
  local till, by = string.match(held, '^(%d+) (.*)$')
  if by ~= holder and tonumber(till) > now then return '' end
end
call('DEL', key)
if ms > 0 then call('SET', key, whole(now + ms) .. ' ' .. holder) end
return whole(now)
