-- What the inspector asks. States are numbers here, see rows.py.

-- name: executions
SELECT record FROM execution WHERE id = $1 ORDER BY number

-- name: counts
SELECT state, count(*) FROM finished GROUP BY state
UNION ALL SELECT 3, count(*) FROM lease
UNION ALL SELECT 1, count(*) FROM due
UNION ALL SELECT 2, (SELECT count(*) FROM ready) + (SELECT count(*) FROM parked)
    + (SELECT count(*) FROM waiting)

-- name: queue_names
SELECT name FROM queue ORDER BY name

-- name: queues
SELECT q.name, q.pause, d.n, l.n, p.n, now_or($1), least(o.available, w.available)
FROM queue q
LEFT JOIN (SELECT queue, count(*) AS n FROM due GROUP BY queue) d ON d.queue = q.name
LEFT JOIN (SELECT queue, count(*) AS n FROM lease GROUP BY queue) l ON l.queue = q.name
LEFT JOIN (SELECT queue, count(*) AS n FROM parked GROUP BY queue) p ON p.queue = q.name
LEFT JOIN (
    SELECT w.queue, min(w.vtime + 60 * l.priority) AS available
    FROM waiting w JOIN lane l ON l.queue = w.queue AND l.id = w.lane GROUP BY w.queue
) w ON w.queue = q.name
CROSS JOIN LATERAL (
    SELECT min(h.vtime + 60 * h.priority) AS available FROM generate_series(0, 9) AS level, LATERAL (
        SELECT vtime, priority FROM ready WHERE queue = q.name AND priority = level
        ORDER BY vtime LIMIT 1) h
) o
ORDER BY q.name

-- name: depths
SELECT queue, priority, count(*) FROM ready GROUP BY queue, priority
UNION ALL
SELECT w.queue, l.priority, count(*)
FROM waiting w JOIN lane l ON l.queue = w.queue AND l.id = w.lane GROUP BY w.queue, l.priority

-- name: workers
SELECT info, until FROM worker
WHERE NOT swept AND info IS NOT NULL AND until > now_or($1) ORDER BY id

-- name: finals
SELECT t.id, f.state, f.result, f.tail, t.error, f.at, t.body, now_or($2)
FROM task t LEFT JOIN finished f ON f.id = t.id WHERE t.id = ANY ($1)

-- name: finished
SELECT k.*, f.result, now_or($2) AS now,
    CASE WHEN k.last_execution > 1 THEN ARRAY(
        SELECT e.record FROM execution e WHERE e.id = k.id ORDER BY e.number) END AS earlier
FROM ({tasks}) k JOIN finished f ON f.id = k.id
