-- include: clock ids fields terms bucket look
-- Reads ends. ARGV[2]: ids, joined
-- Reply: {now, {place, letter or '' while it is alive, ending or '' ...} of those known here}
local seen = {}
for place, id in ipairs(split(ARGV[2], 16)) do
  local letter, ending = final_of(id)
  if letter or call('HEXISTS', tasks_of(id), id) == 1 then
    seen[#seen + 1] = place
    seen[#seen + 1] = letter or ''
    seen[#seen + 1] = ending or ''
  end
end
return { whole(now), seen }
