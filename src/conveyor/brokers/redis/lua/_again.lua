-- exports: look_again
-- Lets parked lanes look again. `exact`: under this gate only, else under all keys of the limit whose
-- name and line feed `words` is.
local function look_again(cursor, size, words, exact)
  local page = call('HSCAN', root .. ':parked', cursor, 'COUNT', size)
  for k = 1, #page[2], 2 do
    local lane, id = page[2][k], page[2][k + 1]
    if id == words or (not exact and string.sub(id, 1, #words) == words) then
      local place = tonumber(call('ZSCORE', root .. ':bl:' .. id, lane))
      unpark(lane, root, id)
      make_ready(lane, place, root)
    end
  end
  return page[1]
end
