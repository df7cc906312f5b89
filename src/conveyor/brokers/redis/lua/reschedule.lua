-- include: clock ids fields terms bucket ring
-- Lets scheduled tasks be due at another time.
-- ARGV[2]: ids, joined   ARGV[3]: ms from now, or ''   ARGV[4]: the time in ms, or ''
-- Reply: the places of those that were scheduled
local due = tonumber(ARGV[4]) or now + tonumber(ARGV[3])
local moved = {}

for place, id in ipairs(split(ARGV[2], 16)) do
  local packed = call('HGET', tasks_of(id), id)
  local task = packed and fields_of(packed, TERMS)
  if task then
    local member = due_member(id, task[PRIORITY], asking(task[TERMS]))
    if call('ZSCORE', root .. ':due', member) then
      call('ZADD', root .. ':due', whole(due), member)
      moved[#moved + 1] = place
    end
  end
end
ring(#moved)
return moved
