-- name: last_event
SELECT max(seq) FROM conveyor_event;

-- name: insert_event
INSERT INTO conveyor_event (seq, at, count, changes) VALUES (?, ?, ?, ?);

-- name: find_queue
SELECT id FROM conveyor_queue WHERE name = ?;

-- name: insert_queue
INSERT INTO conveyor_queue (name) VALUES (?);

-- name: find_name
SELECT id FROM conveyor_name WHERE name = ?;

-- name: insert_name
INSERT INTO conveyor_name (name) VALUES (?);

-- name: insert_task
INSERT INTO conveyor_task (seq, id, queue, name, priority, rank, body)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: ready_new_tasks
-- One statement for the whole push: a third of the cost of binding each row from Python.
INSERT INTO conveyor_ready (queue, rank, ord, seq, priority)
SELECT queue, rank, seq, seq, priority FROM conveyor_task WHERE seq BETWEEN ? AND ?;

-- name: insert_ready
INSERT INTO conveyor_ready (queue, rank, ord, seq, priority) VALUES (?, ?, ?, ?, ?);

-- name: delete_ready
DELETE FROM conveyor_ready WHERE queue = ? AND rank = ? AND ord = ?;

-- name: insert_due
INSERT INTO conveyor_due (queue, rank, ord, seq, priority) VALUES (?, ?, ?, ?, ?);

-- name: delete_due
DELETE FROM conveyor_due WHERE queue = ? AND rank = ? AND ord = ?;

-- name: find_task
SELECT seq FROM conveyor_task WHERE id = ?;

-- name: insert_key
INSERT INTO conveyor_key (queue, name, key, seq, digest) VALUES (?, ?, ?, ?, ?);

-- name: find_key
SELECT t.id, k.digest, k.expires
FROM conveyor_key k LEFT JOIN conveyor_task t ON t.seq = k.seq
WHERE k.queue = ? AND k.name = ? AND k.key = ?;

-- name: delete_key
DELETE FROM conveyor_key WHERE queue = ? AND name = ? AND key = ?;

-- name: end_key
UPDATE conveyor_key SET expires = ? WHERE seq = ?;

-- name: revive_key
-- A key that was freed meanwhile is taken back only if nobody else has it.
INSERT INTO conveyor_key (queue, name, key, seq, digest) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET expires = NULL WHERE seq = excluded.seq;

-- name: find_lease
SELECT cancel, why FROM conveyor_lease WHERE seq = ? AND execution = ?;

-- name: insert_finished
INSERT INTO conveyor_finished (seq, state, finished_at, check_at, execution, result, record)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: delete_lease
-- The fence: no row goes unless it is the very execution that is being settled.
DELETE FROM conveyor_lease WHERE seq = ? AND execution = ?;

-- name: insert_execution
INSERT OR REPLACE INTO conveyor_execution (seq, number, record) VALUES (?, ?, ?);

-- name: story
SELECT story FROM conveyor_task WHERE seq = ?;

-- name: settle_task
UPDATE conveyor_task SET rank = ?, ord = ?, execution = ?, story = ? WHERE seq = ?;

-- name: place_task
UPDATE conveyor_task SET rank = ?, ord = ? WHERE seq = ?;

-- name: insert_parked
INSERT INTO conveyor_parked (seq, queue, name) VALUES (?, ?, ?);

-- name: delete_parked
DELETE FROM conveyor_parked WHERE seq = ?;

-- name: find_worker
SELECT id, until, swept FROM conveyor_worker WHERE token = ?;

-- name: untold_cancels
SELECT t.id FROM conveyor_lease l CROSS JOIN conveyor_task t ON t.seq = l.seq
WHERE l.worker = ? AND l.cancel > 0 AND l.cancel = 1;

-- name: told_cancels
UPDATE conveyor_lease SET cancel = 2 WHERE worker = ? AND cancel > 0;

-- name: cancels
SELECT t.id FROM conveyor_lease l CROSS JOIN conveyor_task t ON t.seq = l.seq
WHERE l.worker = ? AND l.cancel > 0;

-- name: paused
SELECT id FROM conveyor_queue WHERE pause IS NOT NULL;

-- name: first_due
SELECT rank FROM conveyor_due WHERE queue = ? ORDER BY rank LIMIT 1;

-- name: take_due
SELECT d.rank, d.ord, d.seq, d.priority, t.id, t.execution, t.lane
FROM conveyor_due d CROSS JOIN conveyor_task t ON t.seq = d.seq
WHERE d.queue = ? AND d.rank <= ? ORDER BY d.rank, d.ord LIMIT ?;

-- name: delete_due_through
DELETE FROM conveyor_due WHERE queue = ? AND (rank, ord) <= (?, ?);

-- name: claim
SELECT r.rank, r.ord, t.seq, t.id, t.execution + 1, t.story, t.body
FROM conveyor_ready r CROSS JOIN conveyor_task t ON t.seq = r.seq
WHERE r.queue = ? ORDER BY r.rank, r.ord LIMIT ?;

-- name: delete_ready_through
-- What was claimed is the head of the queue: one range, under the write lock.
DELETE FROM conveyor_ready WHERE queue = ? AND (rank, ord) <= (?, ?);

-- name: any_ready
SELECT 1 FROM conveyor_ready WHERE queue = ? LIMIT 1;

-- name: insert_lease
INSERT INTO conveyor_lease (seq, execution, worker, at) VALUES (?, ?, ?, ?);

-- name: any_parked
SELECT 1 FROM conveyor_parked LIMIT 1;

-- name: parked
SELECT t.seq, t.id, t.execution + 1, t.story, t.body, p.queue, t.lane
FROM conveyor_parked p CROSS JOIN conveyor_task t ON t.seq = p.seq
WHERE p.queue IN ({queues}) AND p.name IN ({names}) AND (t.lane IS NOT NULL) = ?
ORDER BY p.seq LIMIT ?;

-- name: insert_worker
INSERT INTO conveyor_worker (token, until) VALUES (?, ?);

-- name: renew_worker
UPDATE conveyor_worker SET until = ? WHERE id = ?;

-- name: describe_worker
UPDATE conveyor_worker SET info = ? WHERE token = ?;

-- name: grace
-- Not after a goodbye: that lease is over for good.
UPDATE conveyor_worker SET until = min(until + ?, ?) WHERE swept = 0 AND until > 0;

-- name: sweep
UPDATE conveyor_worker SET swept = 1 WHERE id = ?;

-- name: held_by
SELECT t.body, l.execution, t.story, l.cancel, w.token, l.at, l.note, w.id
FROM conveyor_worker w
CROSS JOIN conveyor_lease l ON l.worker = w.id
CROSS JOIN conveyor_task t ON t.seq = l.seq
WHERE w.token = ? ORDER BY l.seq LIMIT ?;

-- name: held_by_silent
SELECT t.body, l.execution, t.story, l.cancel, w.token, l.at, l.note, w.id
FROM conveyor_lease l
CROSS JOIN conveyor_worker w ON w.id = l.worker
CROSS JOIN conveyor_task t ON t.seq = l.seq
WHERE w.swept OR w.until <= ? ORDER BY l.seq LIMIT ?;

-- name: annotate
UPDATE conveyor_lease SET note = ?
WHERE seq = (SELECT seq FROM conveyor_task WHERE id = ?) AND execution = ?;

-- name: whereabouts
-- Where a task is: at most one of the joined tables knows it; none means ready.
SELECT t.seq, t.queue, t.rank, coalesce(t.ord, t.seq), t.execution, t.story, t.body,
       f.state, l.worker, d.seq, p.seq, t.lane
FROM conveyor_task t
LEFT JOIN conveyor_finished f ON f.seq = t.seq
LEFT JOIN conveyor_lease l ON l.seq = t.seq
LEFT JOIN conveyor_due d
       ON d.queue = t.queue AND d.rank = t.rank AND d.ord = coalesce(t.ord, t.seq)
LEFT JOIN conveyor_parked p ON p.seq = t.seq
WHERE t.id = ?;

-- name: flag_cancel
UPDATE conveyor_lease SET cancel = 1, why = ? WHERE seq = ?;

-- name: token_of_worker
SELECT token FROM conveyor_worker WHERE id = ?;

-- name: finished
SELECT state, execution, record FROM conveyor_finished WHERE seq = ?;

-- name: delete_finished
DELETE FROM conveyor_finished WHERE seq = ?;

-- name: delete_task
DELETE FROM conveyor_task WHERE seq = ?;

-- name: delete_executions
DELETE FROM conveyor_execution WHERE seq = ?;

-- name: delete_key_of
DELETE FROM conveyor_key WHERE seq = ?;

-- name: set_pause
UPDATE conveyor_queue SET pause = ? WHERE id = ?;

-- name: all_queues
SELECT id, name FROM conveyor_queue;

-- name: insert_prune
INSERT INTO conveyor_prune (at, seqs) VALUES (?, ?);

-- name: due_prune
SELECT id, seqs FROM conveyor_prune WHERE at <= ? ORDER BY at LIMIT 1;

-- name: delete_prune
DELETE FROM conveyor_prune WHERE id = ?;

-- name: shorten_prune
UPDATE conveyor_prune SET seqs = ? WHERE id = ?;

-- name: finished_times
SELECT finished_at, check_at FROM conveyor_finished WHERE seq = ?;

-- name: expire_result
UPDATE conveyor_finished SET result = NULL, check_at = ? WHERE seq = ?;

-- name: expired_keys
SELECT queue, name, key FROM conveyor_key WHERE expires <= ? LIMIT ?;

-- name: oldest_event
SELECT at FROM conveyor_event ORDER BY seq LIMIT 1;

-- name: prune_events
-- Never the newest one, see the schema.
DELETE FROM conveyor_event WHERE seq IN (
    SELECT seq FROM (SELECT seq, at FROM conveyor_event ORDER BY seq LIMIT ?) WHERE at <= ?
) AND seq < (SELECT max(seq) FROM conveyor_event);

-- name: prune_workers
-- One that was swept must not come back, so it is remembered for much longer.
DELETE FROM conveyor_worker WHERE id IN (
    SELECT w.id FROM conveyor_worker w
    WHERE w.until <= CASE WHEN w.swept THEN ? ELSE ? END AND NOT EXISTS (SELECT 1 FROM conveyor_lease l WHERE l.worker = w.id)
    LIMIT ?
);

-- name: leader
SELECT holder, until FROM conveyor_leader WHERE role = ?;

-- name: set_leader
INSERT INTO conveyor_leader (role, holder, until) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until;

-- name: unset_leader
DELETE FROM conveyor_leader WHERE role = ?;
