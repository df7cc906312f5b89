-- What the reader of events asks.

-- name: events
SELECT seq, at, queue, state, execution, ids FROM event WHERE seq >= $1 ORDER BY seq LIMIT $2

-- name: number
-- A transaction number: all that were given out before are lower.
SELECT pg_current_xact_id()::text

-- name: oldest
-- The lowest number of a transaction that has not ended.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text

-- name: span
SELECT min(seq), max(seq) FROM event

-- name: newest
SELECT seq, cardinality(ids) - 1 AS last FROM event ORDER BY seq DESC LIMIT 1
