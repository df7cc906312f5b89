-- exports: look_again
-- Lets parked lanes look again: those in rooms whose names begin with `words` (gate id or limit, and a
-- line feed), or that is one.
local function look_again(cursor, size, words)
  local page = call('HSCAN', root .. ':parked', cursor, 'COUNT', size)
  for k = 1, #page[2], 2 do
    local lane, room = page[2][k], page[2][k + 1]
    if string.sub(room .. '\n', 1, #words) == words then
      local place = tonumber(call('ZSCORE', root .. ':room:' .. room, lane))
      unpark(lane, root, room)
      make_ready(lane, place, root)
    end
  end
  return page[1]
end
