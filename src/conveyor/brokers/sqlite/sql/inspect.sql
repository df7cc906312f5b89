-- name: get
SELECT * FROM conveyor_tasks WHERE id = ?;

-- name: executions
SELECT record FROM conveyor_execution WHERE seq = ? ORDER BY number;

-- name: newest
-- Walks the ids downwards: right when most tasks match.
SELECT * FROM conveyor_tasks
WHERE id < ? AND id > ? AND (? OR queue = ?) AND (? OR name = ?) AND (? >> state & 1)
ORDER BY id DESC LIMIT ?;

-- name: oldest
SELECT * FROM conveyor_tasks
WHERE id < ? AND id > ? AND (? OR queue = ?) AND (? OR name = ?) AND (? >> state & 1)
ORDER BY id LIMIT ?;

-- name: newest_of_few
-- Begins with the tables that hold only such tasks: a million successes do not slow down the list
-- of dead letters, or of the few that still wait.
SELECT v.* FROM (
    SELECT seq FROM conveyor_lease WHERE ? >> 3 & 1
    UNION ALL SELECT seq FROM conveyor_due WHERE ? >> 1 & 1
    UNION ALL SELECT seq FROM conveyor_ready WHERE ? >> 2 & 1
    UNION ALL SELECT seq FROM conveyor_parked WHERE ? >> 2 & 1
    UNION ALL SELECT seq FROM conveyor_laned WHERE ? >> 2 & 1
    UNION ALL SELECT seq FROM conveyor_finished WHERE state <> 5 AND ? >> state & 1
) few CROSS JOIN conveyor_tasks v ON v.seq = few.seq
WHERE v.id < ? AND v.id > ? AND (? OR v.queue = ?) AND (? OR v.name = ?)
ORDER BY +v.id DESC LIMIT ?;

-- name: oldest_of_few
SELECT v.* FROM (
    SELECT seq FROM conveyor_lease WHERE ? >> 3 & 1
    UNION ALL SELECT seq FROM conveyor_due WHERE ? >> 1 & 1
    UNION ALL SELECT seq FROM conveyor_ready WHERE ? >> 2 & 1
    UNION ALL SELECT seq FROM conveyor_parked WHERE ? >> 2 & 1
    UNION ALL SELECT seq FROM conveyor_laned WHERE ? >> 2 & 1
    UNION ALL SELECT seq FROM conveyor_finished WHERE state <> 5 AND ? >> state & 1
) few CROSS JOIN conveyor_tasks v ON v.seq = few.seq
WHERE v.id < ? AND v.id > ? AND (? OR v.queue = ?) AND (? OR v.name = ?)
ORDER BY +v.id LIMIT ?;

-- name: many_queued
SELECT 1 FROM (SELECT 1 FROM conveyor_ready UNION ALL SELECT 1 FROM conveyor_laned)
LIMIT 1 OFFSET ?;

-- name: count_finished
SELECT count(*) FROM conveyor_finished;

-- name: count_dead
SELECT state, count(*) FROM conveyor_finished WHERE state <> 5 GROUP BY state;

-- name: count_living
SELECT (SELECT count(*) FROM conveyor_ready) + (SELECT count(*) FROM conveyor_parked)
           + (SELECT count(*) FROM conveyor_laned),
       (SELECT count(*) FROM conveyor_due),
       (SELECT count(*) FROM conveyor_lease);

-- name: queue_names
SELECT name FROM conveyor_queue ORDER BY name;

-- name: queues
SELECT id, name, pause FROM conveyor_queue ORDER BY name;

-- name: ready_by_queue
SELECT queue, priority, count(*), min(rank + priority * 60000000)
FROM conveyor_ready GROUP BY queue, priority
UNION ALL
SELECT queue, priority, count(*), min(rank + priority * 60000000)
FROM conveyor_laned GROUP BY queue, priority;

-- name: due_by_queue
SELECT queue, count(*) FROM conveyor_due GROUP BY queue;

-- name: parked_by_queue
SELECT queue, count(*) FROM conveyor_parked GROUP BY queue;

-- name: leased_by_queue
SELECT t.queue, count(*) FROM conveyor_lease l CROSS JOIN conveyor_task t ON t.seq = l.seq
GROUP BY t.queue;

-- name: workers
SELECT token, until, info FROM conveyor_worker WHERE until > ? AND NOT swept ORDER BY token;

-- name: events
SELECT seq, at, changes FROM conveyor_event WHERE seq >= ? ORDER BY seq;

-- name: queue_numbers
SELECT id, name FROM conveyor_queue;

-- name: finals
SELECT t.id, f.state, f.check_at, f.result, f.record
FROM conveyor_task t LEFT JOIN conveyor_finished f ON f.seq = t.seq
WHERE t.id IN ({ids});

-- name: finished
SELECT f.result, f.check_at, v.* FROM conveyor_tasks v
CROSS JOIN conveyor_finished f ON f.seq = v.seq
WHERE v.id IN ({ids});

-- name: earlier
SELECT seq, record FROM conveyor_execution WHERE seq IN ({seqs}) ORDER BY seq, number;

-- name: span_of_events
SELECT min(seq), max(seq) FROM conveyor_event;

-- name: newest_event
SELECT seq, changes FROM conveyor_event ORDER BY seq DESC LIMIT 1;

-- name: data_version
PRAGMA data_version;
