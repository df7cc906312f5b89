-- The stream of events: one entry per script, written with the change it tells of.
--   ev   STREAM; an entry's id is "<number of its last event>-1", so that a cursor is a number and
--        that the stream is cut by events and not by entries, which hold between one and thousands.
--        Fields: t -> ms, then per kind "<state letter><execution>" -> ids, 16 bytes each.
--   evn  the number of the last event
-- Letters: q queued, d scheduled, r running, s succeeded, f failed, c cancelled.
local KEPT_EVENTS = 500000
local told, told_kinds, told_number = {}, {}, 0

local function tell(kind, ids, number)
  local list = told[kind]
  if not list then
    list = {}
    told[kind] = list
    told_kinds[#told_kinds + 1] = kind
  end
  list[#list + 1] = ids
  told_number = told_number + number
end

local function publish()
  if told_number == 0 then return end
  local last = call('INCRBY', root .. ':evn', told_number)
  local floor = math.max(0, last - KEPT_EVENTS)
  local entry = { root .. ':ev', 'MINID', '~', whole(floor), whole(last) .. '-1', 't', whole(now) }
  for _, kind in ipairs(told_kinds) do
    entry[#entry + 1] = kind
    entry[#entry + 1] = table.concat(told[kind])
  end
  call('XADD', unpack(entry))
end
