-- The order of a claim: smallest available_at - 60 s x priority first, by merging the lists. Within a
-- list that is its order, so only heads are compared.
--   tomb  HASH id -> items of it in the lists that count no more (a cancelled task stays where it
--         waited, since taking it out of the middle costs a walk), '' -> their sum
local CHUNK = 128

local function waiting_lists()
  local lists = {}
  local q = root .. ':q:'
  if call('EXISTS', q .. 0, q .. 1, q .. 2, q .. 3, q .. 4, q .. 5, q .. 6, q .. 7, q .. 8, q .. 9) == 0 then
    return lists
  end
  for priority = 0, 9 do
    local key = q .. priority
    local length = call('LLEN', key)
    if length > 0 then
      lists[#lists + 1] = { key = key, credit = LEVEL_MS * priority, length = length, left = length }
    end
  end
  return lists
end

local function available(item)
  return struct.unpack('>I6', item, #item > 16 and 17 or 1)
end

-- Makes list.virtual the place of its head in the order, nil when the list is used up.
local function look_at_head(list)
  if list.at > #list.items then
    list.items = call('LRANGE', list.key, list.used, list.used + CHUNK - 1)
    list.at = 1
  end
  local item = list.items[list.at]
  list.virtual = item and available(item) - list.credit
end

local function best_of(lists)
  local best, second
  for _, list in ipairs(lists) do
    if list.virtual then
      -- The lists are in ascending order of priority: at a tie the later, higher one wins.
      if not best or list.virtual <= best.virtual then
        best, second = list, best
      elseif not second or list.virtual <= second.virtual then
        second = list
      end
    end
  end
  return best, second
end

-- Takes from the best list while it stays the best.
local function take_run(list, bound, taken, number)
  repeat
    taken[#taken + 1] = string.sub(list.items[list.at], 1, 16)
    list.at = list.at + 1
    list.used = list.used + 1
    look_at_head(list)
  until #taken == number or not list.virtual or list.virtual > bound
end

-- `bound`: the last place that is asked for.
local function merge(lists, number, bound)
  local taken = {}
  for _, list in ipairs(lists) do
    if not list.items then
      list.items, list.at, list.used = {}, 1, 0
      look_at_head(list)
    end
  end
  while #taken < number do
    local best, second = best_of(lists)
    if not best or best.virtual > bound then break end
    take_run(best, math.min(bound, second and second.virtual or math.huge), taken, number)
  end
  for _, list in ipairs(lists) do list.left = list.length - list.used end
  return taken
end

-- Cuts off what was merged.
local function trim(lists)
  for _, list in ipairs(lists) do
    if list.used and list.used > 0 then
      call('LTRIM', list.key, list.used, -1)
      list.length, list.used = list.length - list.used, 0
    end
  end
end

local function take_from_one(list, number)
  local items = call('LPOP', list.key, number) or {}
  list.left = list.left - #items
  for k, item in ipairs(items) do items[k] = string.sub(item, 1, 16) end
  return items
end

local function drop_dead(ids)
  local tomb = root .. ':tomb'
  local marks, living = call('HMGET', tomb, unpack(ids)), {}
  local dropped = 0
  for k, id in ipairs(ids) do
    -- Asked again for an id that was taken twice: the first mark may have been its only one.
    if marks[k] and call('HEXISTS', tomb, id) == 1 then
      dropped = dropped + 1
      if call('HINCRBY', tomb, id, -1) == 0 then call('HDEL', tomb, id) end
    else
      living[#living + 1] = id
    end
  end
  if dropped > 0 and call('HINCRBY', tomb, '', -dropped) == 0 then call('DEL', tomb) end
  return living
end

-- Takes up to `number` ids off the lists. Returns them, and whether it is worth asking for more. With a
-- `bound`, only those up to this place; then the lists are read on from where they were, and it is the
-- caller who trims them.
local function take(lists, number, bound)
  local full = {}
  for _, list in ipairs(lists) do
    if list.left > 0 then full[#full + 1] = list end
  end
  if #full == 0 then return {}, false end
  local ids
  if bound then
    ids = merge(full, number, bound)
  elseif #full == 1 then
    ids = take_from_one(full[1], number)
  else
    ids = merge(full, number, math.huge)
    trim(full)
  end
  if #ids > 0 and call('EXISTS', root .. ':tomb') == 1 then ids = drop_dead(ids) end
  return ids, true
end
