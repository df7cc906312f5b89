-- include: clock ids fields terms bucket look claim
-- Where queued tasks stand. ARGV[2]: ids, joined
-- Reply: {place, {record, how many are ahead, 1 if that is exact}, place ...} of those queued here
local MOST_COUNTED, PAGE = 10000, 1000

-- Cancelled tasks stay where they waited, and count for nobody.
local function living(items)
  if call('EXISTS', root .. ':tomb') == 0 then return items end
  local ids, found = {}, {}
  for k, item in ipairs(items) do ids[k] = string.sub(item, 1, 16) end
  for k, mark in ipairs(call('HMGET', root .. ':tomb', unpack(ids))) do
    if not mark then found[#found + 1] = items[k] end
  end
  return found
end

-- Counts items from the head of a list until `is_last` says so. Returns how many, and the item at which
-- it stopped.
local function count_until(priority, is_last, most)
  local key, counted, first = root .. ':q:' .. priority, 0, 0
  while counted < most do
    local items = call('LRANGE', key, first, first + PAGE - 1)
    if #items == 0 then break end
    first = first + #items
    for _, item in ipairs(living(items)) do
      if is_last(item) then return counted, item end
      counted = counted + 1
    end
  end
  return math.min(counted, most), nil
end

local function ahead_in_lists(id, priority)
  local ahead, mine = count_until(priority, function(item)
    return string.sub(item, 1, 16) == id
  end, MOST_COUNTED)
  if not mine then return ahead, 0 end
  local place = available(mine) - LEVEL_MS * priority
  for other = 0, 9 do
    if other ~= priority then
      ahead = ahead + count_until(other, function(item)
        local its = available(item) - LEVEL_MS * other
        -- At a tie the higher priority wins.
        return its > place or (its == place and other < priority)
      end, MOST_COUNTED - ahead)
    end
  end
  return ahead, ahead < MOST_COUNTED and 1 or 0
end

local seen = {}
for place, id in ipairs(split(ARGV[2], 16)) do
  local packed = call('HGET', tasks_of(id), id)
  if packed and place_of(id, packed) == 'q' then
    local task = fields_of(packed, TERMS)
    local terms = asking(task[TERMS])
    local ahead, exact = nil, 1
    if terms and terms[LANE] ~= '' then
      ahead = call('ZRANK', root .. ':l:' .. terms[LANE], id)
    else
      ahead, exact = ahead_in_lists(id, task[PRIORITY])
    end
    if ahead then
      seen[#seen + 1] = place
      seen[#seen + 1] = { packed, ahead, exact }
    end
  end
end
return seen
