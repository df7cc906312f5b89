-- include: clock bucket tell ring lease
-- lanes: fields terms unique gates rooms slots lanes adopt
-- Leases parked tasks whose names the worker knows.
-- ARGV[2] worker  ARGV[3] how many it wants  ARGV[4] MessagePack of the names it knows
-- Reply: {now, 1 if the worker's lease is live here or nothing is parked, leased tasks as one
-- MessagePack array or '', {place, m ...}}
local PAGE, MOST_PASSED = 100, 500
local worker, want = ARGV[2], tonumber(ARGV[3])
local names = call('SMEMBERS', root .. ':pn')
if #names == 0 then return { whole(now), 1, '', {} } end
if not may_lease(worker) then return { whole(now), 0, '', {} } end

-- Those whose gates refuse them stay, and are passed by.
local function adopt_named(name)
  local key, passed = root .. ':p:' .. name, 0
  while #leased < want and passed < MOST_PASSED do
    local ids = call('ZRANGE', key, passed, passed + math.min(want - #leased, PAGE) - 1)
    if #ids == 0 then break end
    local fine = lanes().admitted(ids)
    if #fine > 0 then
      call('ZREM', key, unpack(fine))
      give(fine, worker, lanes().records)
    end
    passed = passed + #ids - #fine
  end
  if call('EXISTS', key) == 0 then call('SREM', root .. ':pn', name) end
end

if call('EXISTS', root .. ':pause') == 0 then
  local known = {}
  for _, name in ipairs(cmsgpack.unpack(ARGV[4])) do known[name] = true end
  for _, name in ipairs(names) do
    if known[name] and #leased < want then adopt_named(name) end
  end
  publish()
end
return { whole(now), 1, leased_tasks(), leased_before }
