-- include: clock
-- One page of documents in the order of their ids. ARGV[2] kind  ARGV[3] the id before  ARGV[4] how many
-- Reply: {id, "<version> <body>", id ...}
local after = ARGV[3] == '' and '-' or '(' .. ARGV[3]
local ids = call('ZRANGEBYLEX', root .. ':docix:' .. ARGV[2], after, '+', 'LIMIT', 0, ARGV[4])
local page = {}
for _, id in ipairs(ids) do
  page[#page + 1] = id
  page[#page + 1] = call('HGET', root .. ':doc:' .. ARGV[2], id)
end
return page
