-- Bells. A listening worker whose step left it hungry is in the set `idle`; whoever makes tasks
-- available takes as many workers out of it as there is work for, and rings each at its own list,
-- where it waits with BLPOP. In one script with the change, so no wake-up falls between.
--   idle            SET of worker tokens
--   wake:<token>    LIST; an element is a ring
--   w               ZSET token -> end of its lease in ms (minus the time it was swept)
local RING_KEPT_MS = 60000

local function ring_one(worker)
  local bell = root .. ':wake:' .. worker
  call('LPUSH', bell, '1')
  call('PEXPIRE', bell, RING_KEPT_MS)
end

local function ring(number)
  if number <= 0 then return end
  for _, worker in ipairs(call('SPOP', root .. ':idle', number)) do
    local till = call('ZSCORE', root .. ':w', worker)
    if till and tonumber(till) > now then
      ring_one(worker)
    else
      -- It died without a goodbye: the next one gets its ring.
      ring(1)
    end
  end
end
