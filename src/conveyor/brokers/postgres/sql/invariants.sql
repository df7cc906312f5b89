-- The invariants, each as a question for the tasks that break it; the reader adds a LIMIT.

-- name: I1 conservation: tasks that wait nowhere, run nowhere and never ended
SELECT t.id FROM task t
WHERE NOT EXISTS (SELECT 1 FROM ready r WHERE r.id = t.id AND r.queue = t.queue)
    AND NOT EXISTS (SELECT 1 FROM due d WHERE d.id = t.id)
    AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.id = t.id)
    AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.id = t.id)
    AND NOT EXISTS (SELECT 1 FROM waiting w WHERE w.id = t.id)
    AND NOT EXISTS (SELECT 1 FROM finished f WHERE f.id = t.id)

-- name: I1 conservation: tasks that are in two places at once
SELECT p.id FROM (
    SELECT id FROM ready UNION ALL SELECT id FROM due UNION ALL SELECT id FROM lease
    UNION ALL SELECT id FROM parked UNION ALL SELECT id FROM waiting UNION ALL SELECT id FROM finished
) AS p GROUP BY p.id HAVING count(*) > 1

-- name: I1 conservation: ids that wait, run or ended without a task
SELECT p.id FROM (
    SELECT id FROM ready UNION ALL SELECT id FROM due UNION ALL SELECT id FROM lease
    UNION ALL SELECT id FROM parked UNION ALL SELECT id FROM waiting UNION ALL SELECT id FROM finished
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

-- name: I6 slots: tasks that hold a slot of a limit and neither run nor hold a line
SELECT s.id FROM slot s WHERE NOT EXISTS (SELECT 1 FROM lease l WHERE l.id = s.id)
    AND NOT (s.line AND EXISTS (SELECT 1 FROM gated g WHERE g.id = s.id))

-- name: I6 slots: running tasks without their slot
SELECT l.id FROM lease l JOIN toll t ON t.id = l.id
WHERE t.rate = 0 AND NOT EXISTS (SELECT 1 FROM slot s WHERE s.id = l.id AND s.gate = t.gate)

-- name: I6 slots: limits whose number of taken slots is wrong
SELECT g.id FROM gate g
WHERE g.running <> (SELECT count(*) FROM slot s WHERE s.gate = g.id)
UNION ALL
SELECT s.gate FROM slot s WHERE NOT EXISTS (SELECT 1 FROM gate g WHERE g.id = s.gate)

-- name: I6 lanes: gated tasks that wait where no worker looks
SELECT w.id FROM waiting w
WHERE NOT EXISTS (SELECT 1 FROM lane l WHERE l.queue = w.queue AND l.id = w.lane)
    OR NOT EXISTS (SELECT 1 FROM gated g WHERE g.id = w.id)
UNION ALL
SELECT r.id FROM ready r JOIN gated g ON g.id = r.id

-- name: I6 lanes: gated tasks that wait below the floor of their lane
SELECT w.id FROM waiting w JOIN lane l ON l.queue = w.queue AND l.id = w.lane WHERE w.vtime < l.low

-- name: I6 lanes: lanes that sleep until their gate has room, which it has
SELECT l.id FROM lane l JOIN gate g ON g.id = l.gate
WHERE l.at = 'infinity' AND g.running = 0 AND g.tat <= now_or($1)
    AND NOT EXISTS (SELECT 1 FROM lane o WHERE o.gate = l.gate AND o.queue = l.queue
        AND (o.at IS NULL OR o.at < 'infinity'))
    AND NOT EXISTS (SELECT 1 FROM ruling r WHERE r.id IN (l.gate, split_part(l.gate, E'\n', 1)))

-- name: I1 terms: final tasks that still claim lanes, gates or keys
SELECT f.id FROM finished f WHERE EXISTS (SELECT 1 FROM gated g WHERE g.id = f.id)
    OR EXISTS (SELECT 1 FROM toll t WHERE t.id = f.id)
    OR EXISTS (SELECT 1 FROM uniq u WHERE u.id = f.id AND u.expires IS NULL)
