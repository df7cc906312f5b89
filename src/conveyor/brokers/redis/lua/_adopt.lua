-- exports: admitted records
-- Parked tasks stand in no lane; those with gates are admitted all the same.
local records, refused_lanes = {}, {}

local function free_key(id, name, unique)
  if unique and (unique[UNTIL] == 'queued' or unique[UNTIL] == 'start') then
    free_unique(key_field(name, unique[U_KEY]), id)
  end
end

-- Whether a task may start: all gates of one lane refuse the next one too.
local function is_admitted(id, packed)
  local terms, _, name = terms_of(packed)
  terms = asking(terms)
  if not terms then return true end
  local lane = terms[LANE]
  if refused_lanes[lane] then return false end
  if admit(terms[GATES], id .. root) then
    refused_lanes[lane] = true
    return false
  end
  free_key(id, name, terms[UNIQUE])
  return true
end

-- Returns those of the ids that may start, and those that are no tasks any more.
local function admitted(ids)
  local fine = {}
  for k, packed in ipairs(tasks_by_id(ids)) do
    local id = ids[k]
    if not packed or is_admitted(id, packed) then
      fine[#fine + 1], records[id] = id, packed or nil
    end
  end
  return fine
end
