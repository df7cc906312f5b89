-- Every script: KEYS[1] is the root of a queue's keys ("{namespace:queue}", one cluster slot) or of
-- the namespace's ("{namespace}"). All other keys are made from it, so that they share its slot and
-- that a call names two keys, not twenty. KEYS[2] is what the keys of gates begin with: on one server
-- those of the namespace, "{namespace}:", which all queues share; in a cluster a script may touch one
-- slot only, so there each queue has its own, and no "shared" key is shared. (See also server.py.)
-- ARGV[1] is the time in ms, or '' for the server's own clock.
local call = redis.call
local root, shared, now = KEYS[1], KEYS[2], tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A waiting task gains one level of priority in so many ms.
local LEVEL_MS = 60000

-- A time as the six bytes that also begin a UUIDv7: short, and comparable with one.
local function six(ms)
  return struct.pack('>I6', ms)
end

-- Lua prints numbers of 14 digits and more as 1e+14.
local function whole(number)
  return string.format('%.0f', number)
end
