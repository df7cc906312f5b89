-- Documents: the version in the condition makes each of these one atomic decision.

-- name: get
SELECT id, version, body FROM document WHERE kind = $1 AND id = ANY ($2)

-- name: list
SELECT id, version, body FROM document WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3

-- name: create
INSERT INTO document VALUES ($1, $2, 1, $3) ON CONFLICT DO NOTHING RETURNING version

-- name: replace
UPDATE document SET body = $3, version = version + 1
WHERE kind = $1 AND id = $2 AND version = $4 RETURNING version

-- name: delete
DELETE FROM document WHERE kind = $1 AND id = $2 AND version = coalesce($3, version)
RETURNING version

-- name: members
SELECT member FROM arrival WHERE key = $1 ORDER BY member
