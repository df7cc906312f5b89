-- Leases of workers, notes, leaderships, pauses. Small tables and rare verbs: plain statements.

-- name: extend
-- Who was swept stays out: no row comes back for it.
INSERT INTO worker AS w (id, until)
SELECT n, now_or($1) + $3 FROM unnest($2::text[]) AS n ORDER BY n
ON CONFLICT (id) DO UPDATE SET until = excluded.until, gone = false
    WHERE NOT w.swept RETURNING w.id

-- name: end
UPDATE worker SET until = least(until, now_or($1)), gone = true
WHERE id = ANY ($2) AND NOT swept

-- name: swept
SELECT id FROM worker WHERE id = ANY ($1) AND swept

-- name: inform
UPDATE worker SET info = $2 WHERE id = $1

-- name: cancels
SELECT worker, id FROM lease WHERE worker = ANY ($1) AND cancel IS NOT NULL

-- name: sweep
UPDATE worker SET swept = true WHERE until <= now_or($1) AND NOT swept

-- name: held_by
SELECT t.body, l.execution, t.counters, l.cancel, l.worker, l.at, l.note
FROM lease l JOIN task t ON t.id = l.id WHERE l.worker = $1 ORDER BY l.id LIMIT $2

-- name: held_over
SELECT t.body, l.execution, t.counters, l.cancel, l.worker, l.at, l.note
FROM lease l JOIN task t ON t.id = l.id LEFT JOIN worker w ON w.id = l.worker
WHERE w.id IS NULL OR w.swept ORDER BY l.worker, l.id LIMIT $1

-- name: grace
UPDATE worker SET until = LEAST(until + $1, now_or($2) + 2 * $1) WHERE NOT swept AND NOT gone

-- name: note
UPDATE lease l SET note = s.note FROM unnest($1::uuid[], $2::integer[], $3::bytea[])
    AS s (id, execution, note)
WHERE l.id = s.id AND l.execution = s.execution RETURNING l.id, l.execution

-- name: lead
WITH now AS MATERIALIZED (SELECT now_or($1) AS clock)
INSERT INTO leader AS l SELECT $2, $3, clock + $4 FROM now
ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE l.holder = excluded.holder OR l.until <= (SELECT clock FROM now)
RETURNING (SELECT clock FROM now)

-- name: abdicate
WITH now AS MATERIALIZED (SELECT now_or($1) AS clock),
    gone AS (DELETE FROM leader WHERE role = $2 AND holder = $3)
SELECT clock FROM now WHERE NOT EXISTS (
    SELECT 1 FROM leader WHERE role = $2 AND holder <> $3 AND until > clock)

-- name: pause
INSERT INTO queue VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET pause = excluded.pause

-- name: ring
SELECT pg_notify(current_schema(), 'q' || name) FROM unnest($1::text[]) AS name
