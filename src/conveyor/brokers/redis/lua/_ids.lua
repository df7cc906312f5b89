-- Ids come joined, 16 bytes each. (Redis's cmsgpack knows nothing of MessagePack's `bin`; what must be
-- bytes inside a MessagePack argument is written as `str`.)
local function split(joined, size)
  local parts = {}
  for k = 1, #joined / size do parts[k] = string.sub(joined, (k - 1) * size + 1, k * size) end
  return parts
end
