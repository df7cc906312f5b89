-- Bells. A listening worker whose step left it hungry is in the set `idle`; whoever makes tasks
-- available takes as many workers out of it as there is work for, and rings each at its own list,
-- where it waits with BLPOP. In one script with the change, so no wake-up falls between.
--   idle            SET of worker tokens
--   wake:<token>    LIST; an element is a ring
--   w               ZSET token -> end of its lease in ms (minus the time it was swept)
local RING_KEPT_MS = 60000

-- `base`: the root of the queue, this one unless told otherwise.
local function ring_one(worker, base)
  local bell = (base or root) .. ':wake:' .. worker
  call('LPUSH', bell, '1')
  call('PEXPIRE', bell, RING_KEPT_MS)
end

local function ring(number, base)
  if number <= 0 then return end
  base = base or root
  for _, worker in ipairs(call('SPOP', base .. ':idle', number)) do
    local till = call('ZSCORE', base .. ':w', worker)
    if till and tonumber(till) > now then
      ring_one(worker, base)
    else
      -- It died without a goodbye: the next one gets its ring.
      ring(1, base)
    end
  end
end
