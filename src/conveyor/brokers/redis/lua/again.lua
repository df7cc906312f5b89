-- include: clock tell ring
-- lanes: fields terms unique gates rooms slots lanes again
-- A limit was opened or tuned: one page of the lanes it may have parked look again.
-- ARGV[2] cursor  ARGV[3] page size  ARGV[4] gate id or name of the limit, and a line feed
-- Reply: the next cursor, '0' at the end
local cursor = lanes().look_again(ARGV[2], ARGV[3], ARGV[4])
ring(lanes().ring_elsewhere())
return cursor
