-- What people ask about limits. A closure counts while it lasts, of the limit or of the key.

-- name: look
-- A limit as a whole is shown when people changed it and its empty key has nothing to show.
WITH known AS (
    SELECT g.id FROM gate g WHERE g.running > 0
    UNION SELECT g.id FROM gate g WHERE g.tat > now_or($1)
    UNION SELECT r.id FROM ruling r WHERE r.rate IS NOT NULL OR r.most IS NOT NULL
        OR r.until > now_or($1)
), named AS (
    SELECT k.id, split_part(k.id, E'\n', 1) AS name FROM known k
), shown AS (
    SELECT n.id, n.name FROM named n WHERE ($2::text IS NULL OR n.name = $2)
        AND (n.id <> n.name OR NOT EXISTS (SELECT 1 FROM known o WHERE o.id = n.name || E'\n'))
    ORDER BY n.id LIMIT $3
), held AS (
    SELECT h.gate, (array_agg(h.id ORDER BY h.at, h.id))[:100] AS holders
    FROM holder h WHERE h.gate IN (SELECT s.id FROM shown s) GROUP BY h.gate
)
SELECT s.id, coalesce(g.tat, 0) AS tat, coalesce(g.running, 0) AS running,
    coalesce(greatest(w.until, k.until), 0) AS until, coalesce(k.pause, w.pause) AS pause,
    w.rate, w.most,
    coalesce(h.holders, '{}') AS holders
FROM shown s
LEFT JOIN held h ON h.gate = s.id
LEFT JOIN gate g ON g.id = s.id
LEFT JOIN ruling w ON w.id = s.name AND (w.until IS NULL OR w.until > now_or($1)
    OR w.rate IS NOT NULL OR w.most IS NOT NULL)
LEFT JOIN ruling k ON k.id = s.id AND k.until > now_or($1)
ORDER BY s.id

-- name: gates_of
WITH held AS (
    SELECT h.gate, (array_agg(h.id ORDER BY h.at, h.id))[:100] AS holders FROM holder h
    WHERE h.gate IN (SELECT t.gate FROM toll t WHERE t.id = ANY ($2)) GROUP BY h.gate
)
SELECT t.id AS task, t.gate AS id, coalesce(g.tat, 0) AS tat, coalesce(g.running, 0) AS running,
    coalesce(greatest(w.until, k.until), 0) AS until,
    CASE WHEN k.until > now_or($1) THEN k.pause WHEN w.until > now_or($1) THEN w.pause END AS pause,
    w.rate, w.most,
    coalesce(h.holders, '{}') AS holders
FROM toll t
LEFT JOIN held h ON h.gate = t.gate
LEFT JOIN gate g ON g.id = t.gate
LEFT JOIN ruling w ON w.id = split_part(t.gate, E'\n', 1)
LEFT JOIN ruling k ON k.id = t.gate
WHERE t.id = ANY ($2) ORDER BY t.id, t.n

-- name: ranks
SELECT w.id, now_or($1), (SELECT count(*) FROM (
    SELECT 1 FROM waiting o WHERE o.queue = w.queue AND o.lane = w.lane
        AND (o.vtime, o.execution, o.id) < (w.vtime, w.execution, w.id) LIMIT $3) b)
FROM waiting w WHERE w.id = ANY ($2)
UNION ALL
SELECT r.id, now_or($1), (SELECT count(*) FROM (
    SELECT 1 FROM generate_series(0, 9) AS level, LATERAL (
        SELECT 1 FROM ready o WHERE o.queue = r.queue AND o.priority = level
            AND (o.vtime, o.execution, o.id) < (r.vtime, r.execution, r.id) LIMIT $3) a
    LIMIT $3) b)
FROM task t, LATERAL (
    SELECT * FROM ready o WHERE o.queue = t.queue AND o.priority = t.priority
        AND o.vtime = t.place AND o.execution = t.execution AND o.id = t.id AND NOT o.promoted
    UNION ALL SELECT * FROM ready o WHERE o.id = t.id AND o.promoted) r
WHERE t.id = ANY ($2)
