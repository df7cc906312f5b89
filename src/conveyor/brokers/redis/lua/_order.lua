-- exports: claim_in_order looked_enough end_of_turns records
-- Returns the place of the first plain task that was not taken.
local function place_of_line(lists)
  local place = HUGE
  for _, list in ipairs(lists) do
    if list.virtual then place = math.min(place, list.virtual) end
  end
  return place
end

-- Looks at the lane that stands first, {it, its place}. Returns the ids that it gave.
local function from_lane(first, lists, most)
  local lane, place = first[1], tonumber(first[2])
  local line, run = place_of_line(lists), nil
  if last_lane ~= lane then
    run = try_wave(line, most)
  elseif most > 1 then
    local second = call('ZRANGE', root .. ':lanes', 1, 1, 'WITHSCORES')[2]
    run = try_run(lane, place, math.min(tonumber(second) or HUGE, line), most)
  end
  return run or { try_lane(lane, place) }
end

-- Takes up to `number` tasks in the order of the claim, at most `room` of them from lanes. Returns their
-- ids and how many came from lanes.
local function claim_in_order(lists, number, room)
  local ids, from_lanes = {}, 0
  while #ids < number and looks < MOST_LOOKS do
    local first = from_lanes < room and call('ZRANGE', root .. ':lanes', 0, 0, 'WITHSCORES') or {}
    local plain, on = take(lists, number - #ids, tonumber(first[2]) or HUGE)
    for _, id in ipairs(plain) do ids[#ids + 1] = id end
    if first[1] then
      local most = math.min(number - #ids, room - from_lanes)
      for _, id in ipairs(most > 0 and from_lane(first, lists, most) or {}) do
        ids[#ids + 1] = id
        from_lanes = from_lanes + 1
      end
    elseif not on then
      break
    end
  end
  return ids, from_lanes
end

local function end_of_turns()
  if turn then call('SET', root .. ':turn', turn) end
end

local function looked_enough()
  return looks >= MOST_LOOKS
end
