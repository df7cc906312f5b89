-- Leasing.
--   i      HASH id -> "<execution number> <leased at, ms> <worker>": who runs it, and the fence. Padded
--          with spaces beyond 64 bytes, from which on Redis makes a hash table: in the compact form
--          for short values, up to 512 of them, each look-up is a walk (2 us instead of 0.25).
--   pause  STRING, there while the queue gives out nothing
-- A task leased for the first time gets number 1 without a write to `m`.
local MOST_BYTES, PADDED = 4194304, 65

local function may_lease(worker)
  local till = call('ZSCORE', root .. ':w', worker)
  return till and tonumber(till) > now
end

-- HMGET over hashes of several buckets; answers in the order of the ids, false where unknown.
local function tasks_by_id(ids)
  local first = string.sub(ids[1], 1, 4)
  local same = true
  for k = 2, #ids do
    if string.sub(ids[k], 1, 4) ~= first then
      same = false
      break
    end
  end
  if same then return call('HMGET', bucket(':j:', first), unpack(ids)) end
  local groups, found = {}, {}
  for k, id in ipairs(ids) do
    local prefix = string.sub(id, 1, 4)
    local group = groups[prefix]
    if not group then
      group = { ids = {}, places = {} }
      groups[prefix] = group
    end
    group.ids[#group.ids + 1] = id
    group.places[#group.places + 1] = k
  end
  for prefix, group in pairs(groups) do
    local tasks = call('HMGET', bucket(':j:', prefix), unpack(group.ids))
    for n, place in ipairs(group.places) do found[place] = tasks[n] end
  end
  return found
end

-- The same where some of them were read before: {id = task}.
local function tasks_unread(ids, known)
  local missing, places, tasks = {}, {}, {}
  for k, id in ipairs(ids) do
    tasks[k] = known[id] or false
    if not tasks[k] then
      missing[#missing + 1] = id
      places[#places + 1] = k
    end
  end
  if #missing == 0 then return tasks end
  for n, task in ipairs(tasks_by_id(missing)) do tasks[places[n]] = task end
  return tasks
end

local leased, leased_bytes, leased_before = {}, 0, {}

-- At most a thousand ids at a time. `known`: tasks that were read before, if any. What is leased gathers in `leased` (the tasks' bytes) and
-- `leased_before` (place in it, counted from 1, and the task's `m`).
local function give(ids, worker, known)
  if #ids == 0 then return end
  local tasks = known and tasks_unread(ids, known) or tasks_by_id(ids)
  local touched = call('EXISTS', root .. ':m') == 1 and call('HMGET', root .. ':m', unpack(ids))
  local tail = ' ' .. whole(now) .. ' ' .. worker
  tail = tail .. string.rep(' ', PADDED - #tail)
  local first, holds, fresh = '1' .. tail, {}, {}
  for k, id in ipairs(ids) do
    local task = tasks[k]
    if task then
      leased[#leased + 1] = task
      leased_bytes = leased_bytes + #task
      holds[#holds + 1] = id
      local before = touched and touched[k]
      if before then
        local number = tonumber(string.match(before, '^%d+')) + 1
        holds[#holds + 1] = number .. tail
        leased_before[#leased_before + 1] = #leased
        leased_before[#leased_before + 1] = before
        tell('r' .. number, id, 1)
      else
        holds[#holds + 1] = first
        fresh[#fresh + 1] = id
      end
    end
  end
  if #holds == 0 then return end
  call('HSET', root .. ':i', unpack(holds))
  if #fresh > 0 then tell('r1', table.concat(fresh), #fresh) end
end

-- All leased tasks as one MessagePack array: Python decodes them in one go.
local function leased_tasks()
  if #leased == 0 then return '' end
  return '\221' .. struct.pack('>I4', #leased) .. table.concat(leased)
end
