-- The invariants, each as a question for the tasks that break it; the reader adds a LIMIT.

-- name: I1 conservation: tasks that wait nowhere, run nowhere and never ended
SELECT t.id FROM task t
WHERE NOT EXISTS (SELECT 1 FROM ready r WHERE r.id = t.id AND r.queue = t.queue)
    AND NOT EXISTS (SELECT 1 FROM due d WHERE d.id = t.id)
    AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.id = t.id)
    AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.id = t.id)
    AND NOT EXISTS (SELECT 1 FROM finished f WHERE f.id = t.id)

-- name: I1 conservation: tasks that are in two places at once
SELECT p.id FROM (
    SELECT id FROM ready UNION ALL SELECT id FROM due UNION ALL SELECT id FROM lease
    UNION ALL SELECT id FROM parked UNION ALL SELECT id FROM finished
) AS p GROUP BY p.id HAVING count(*) > 1

-- name: I1 conservation: ids that wait, run or ended without a task
SELECT p.id FROM (
    SELECT id FROM ready UNION ALL SELECT id FROM due UNION ALL SELECT id FROM lease
    UNION ALL SELECT id FROM parked UNION ALL SELECT id FROM finished
) AS p LEFT JOIN task t ON t.id = p.id WHERE t.id IS NULL

-- name: I3 execution numbers: running tasks whose number is not the next one
SELECT l.id FROM lease l JOIN task t ON t.id = l.id WHERE l.execution <> t.execution + 1

-- name: I5 results: tasks with a result that did not succeed
SELECT id FROM finished WHERE result IS NOT NULL AND state <> 5

-- name: I7 keys: keys of living tasks that are not held
SELECT i.id FROM idem i JOIN task t ON t.id = i.id
WHERE i.expires IS NOT NULL AND NOT EXISTS (SELECT 1 FROM finished f WHERE f.id = i.id)

-- name: I10 places: waiting tasks that a cancellation would not find
SELECT r.id FROM ready r JOIN task t ON t.id = r.id
WHERE r.execution <> t.execution OR r.queue <> t.queue OR r.priority <> t.priority
    OR (r.vtime <> t.place AND NOT r.promoted)

-- name: I9 live leases: running tasks whose worker's lease ended over a minute ago: is a keeper running?
SELECT l.id FROM lease l LEFT JOIN worker w ON w.id = l.worker
WHERE coalesce(w.until, 0) < now_or($1) - 60
