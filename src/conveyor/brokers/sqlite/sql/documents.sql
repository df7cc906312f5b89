-- name: get
SELECT kind, id, version, body FROM conveyor_document WHERE kind = ? AND id IN ({ids});

-- name: list
SELECT kind, id, version, body FROM conveyor_document
WHERE kind = ? AND id > ? ORDER BY id LIMIT ?;

-- name: create
INSERT INTO conveyor_document (kind, id, version, body) VALUES (?, ?, 1, ?) ON CONFLICT DO NOTHING;

-- name: replace
UPDATE conveyor_document SET version = version + 1, body = ?
WHERE kind = ? AND id = ? AND version = ?;

-- name: delete
DELETE FROM conveyor_document WHERE kind = ? AND id = ? AND version = coalesce(?, version);

-- name: arrive
INSERT INTO conveyor_tally_member (key, member) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: grow
INSERT INTO conveyor_tally (key, size) VALUES (?, ?)
ON CONFLICT DO UPDATE SET size = size + excluded.size RETURNING size;

-- name: members
SELECT member FROM conveyor_tally_member WHERE key = ? ORDER BY member;

-- name: drop_members
DELETE FROM conveyor_tally_member WHERE key = ?;

-- name: drop_tally
DELETE FROM conveyor_tally WHERE key = ?;
