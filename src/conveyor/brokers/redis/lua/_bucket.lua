-- Records lie in hashes of about 65 s each, named by the first four bytes of the ids in them: an id
-- alone says where its record is, and a whole hash is dropped at once when it is old enough.
--   j:<bucket>  id -> the task as it was enqueued, for as long as anything is known of it
--   f:<bucket>  id -> how it succeeded; always also in j
--   jb, fb      ZSET bucket -> its number / ms when its successes are pruned
local bucket_names = {}

local function bucket(kind, prefix)
  local name = bucket_names[prefix]
  if not name then
    name = string.format('%08x', struct.unpack('>I4', prefix))
    bucket_names[prefix] = name
  end
  return root .. kind .. name
end

local function tasks_of(id)
  return bucket(':j:', string.sub(id, 1, 4))
end

local function successes_of(id)
  return bucket(':f:', string.sub(id, 1, 4))
end

-- After deletions: a bucket without tasks is no longer listed.
local function unlist_if_empty(prefix)
  if call('EXISTS', bucket(':j:', prefix)) == 0 then call('ZREM', root .. ':jb', prefix) end
end

local function note_bucket(prefix)
  local number = struct.unpack('>I4', prefix)
  call('ZADD', root .. ':jb', whole(number), prefix)
end
