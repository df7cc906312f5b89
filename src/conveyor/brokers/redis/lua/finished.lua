-- include: clock ids fields terms bucket look
-- Reads tasks that ended. ARGV[2]: ids, joined
-- Reply: {now, {place, letter, task, ending ...} of those that are final here}
local seen = {}
for place, id in ipairs(split(ARGV[2], 16)) do
  local letter, ending = final_of(id)
  if letter then
    local n = #seen
    seen[n + 1] = place
    seen[n + 2] = letter
    seen[n + 3] = call('HGET', tasks_of(id), id)
    seen[n + 4] = ending
  end
end
return { whole(now), seen }
