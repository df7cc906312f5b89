-- name: insert_marked_task
INSERT INTO conveyor_task (seq, id, queue, name, priority, rank, body, lane)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: ready_new_marked_tasks
-- Those of a push that wait in no lane.
INSERT INTO conveyor_ready (queue, rank, ord, seq, priority)
SELECT queue, rank, seq, seq, priority FROM conveyor_task
WHERE seq BETWEEN ? AND ? AND lane IS NULL;

-- name: lane_new_tasks
-- And those that do, all of a lane at its end.
INSERT INTO conveyor_laned (queue, lane, front, rank, ord, seq, priority)
SELECT queue, lane, 1, rank, seq, seq, priority FROM conveyor_task
WHERE seq BETWEEN ? AND ? AND lane IS NOT NULL;

-- name: insert_laned
INSERT INTO conveyor_laned (queue, lane, front, rank, ord, seq, priority)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: delete_laned
DELETE FROM conveyor_laned WHERE queue = ? AND lane = ? AND front IN (0, 1) AND rank = ? AND ord = ?;

-- name: delete_laned_through
-- A run: the first of a lane in which nobody kept a slot.
DELETE FROM conveyor_laned
WHERE queue = ? AND lane = ? AND front = 1 AND (rank, ord) <= (?, ?);

-- name: run
-- The first of a lane that stand before another place in the order of the claim.
SELECT w.rank, w.ord, t.seq, t.id, t.execution + 1, t.story, t.body
FROM conveyor_laned w CROSS JOIN conveyor_task t ON t.seq = w.seq
WHERE w.queue = ? AND w.lane = ? AND w.front = 1 AND (w.rank, w.ord) < (?, ?)
ORDER BY w.rank, w.ord LIMIT ?;

-- name: first_in_lane
SELECT seq, rank, ord FROM conveyor_laned
WHERE queue = ? AND lane = ? ORDER BY front, rank, ord LIMIT 1;

-- name: insert_lane
INSERT INTO conveyor_lane (queue, lane, head, rank, ord) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: lane
SELECT head, rank, ord, floor, stall FROM conveyor_lane WHERE queue = ? AND lane = ?;

-- name: move_lane
UPDATE conveyor_lane SET head = ?, rank = ?, ord = ?, floor = ?, used = ?, stall = NULL
WHERE queue = ? AND lane = ?;

-- name: reopen_lane
UPDATE conveyor_lane SET head = ?, rank = ?, ord = ?, stall = NULL WHERE queue = ? AND lane = ?;

-- name: delete_lane
DELETE FROM conveyor_lane WHERE queue = ? AND lane = ?;

-- name: any_lane
SELECT 1 FROM conveyor_lane LIMIT 1;

-- name: any_lane_of
SELECT 1 FROM conveyor_lane WHERE queue = ? LIMIT 1;

-- name: next_lanes
-- Each with its head, and with the task behind that.
SELECT l.lane, l.rank, l.ord, l.floor, l.used, t.rank, coalesce(t.ord, t.seq),
       b.seq, b.rank, coalesce(b.ord, b.seq), t.seq, t.id, t.execution + 1, t.story, t.body
FROM conveyor_lane l CROSS JOIN conveyor_task t ON t.seq = l.head
LEFT JOIN conveyor_task b ON b.seq = (
    SELECT w.seq FROM conveyor_laned w WHERE w.queue = l.queue AND w.lane = l.lane
      AND w.seq <> l.head ORDER BY w.front, w.rank, w.ord LIMIT 1
)
WHERE l.queue = ? AND l.stall IS NULL ORDER BY l.rank, l.ord LIMIT ?;

-- name: any_open_lane
SELECT 1 FROM conveyor_lane WHERE queue = ? AND stall IS NULL LIMIT 1;

-- name: stall_lane
UPDATE conveyor_lane SET stall = ? WHERE queue = ? AND lane = ?;

-- name: set_stall
INSERT INTO conveyor_stall (gate, queue, rule, opens) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET opens = excluded.opens RETURNING id;

-- name: time_stall
UPDATE conveyor_stall SET opens = ? WHERE gate = ? AND queue = ? AND rule = ?;

-- name: ripe_stalls
SELECT id FROM conveyor_stall WHERE queue = ? AND opens <= ? LIMIT ?;

-- name: first_stalled
SELECT lane FROM conveyor_lane WHERE stall = ? ORDER BY rank, ord LIMIT 1;

-- name: rest_stall
UPDATE conveyor_stall SET opens = NULL WHERE id = ?;

-- name: any_stall
SELECT 1 FROM conveyor_stall LIMIT 1;

-- name: any_stalled
-- Whether a lane of the queue waits for the gate.
SELECT 1 FROM conveyor_stall s CROSS JOIN conveyor_lane l ON l.stall = s.id
WHERE s.gate = ? AND s.queue = ? LIMIT 1;

-- name: delete_stall
DELETE FROM conveyor_stall WHERE id = ?;

-- name: first_opening
SELECT min(opens) FROM conveyor_stall WHERE queue = ?;

-- name: stir
UPDATE conveyor_stall SET opens = ? WHERE gate = ? RETURNING queue;

-- name: stir_limit
UPDATE conveyor_stall SET opens = ? WHERE gate IN (SELECT id FROM conveyor_gate WHERE name = ?);

-- name: queue_name
SELECT name FROM conveyor_queue WHERE id = ?;

-- name: gate
SELECT g.id, g.tat, (SELECT count(*) FROM conveyor_slot s WHERE s.gate = g.id),
       max(g.closed_until, coalesce(l.closed_until, 0.0)), l.rate, l.most,
       EXISTS (SELECT 1 FROM conveyor_stall s WHERE s.gate = g.id)
FROM conveyor_gate g LEFT JOIN conveyor_limit l ON l.name = g.name
WHERE g.name = ? AND g.key = ?;

-- name: limit
SELECT closed_until, rate, most FROM conveyor_limit WHERE name = ?;

-- name: make_gate
INSERT INTO conveyor_gate (name, key) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: set_tat
UPDATE conveyor_gate SET tat = ? WHERE id = ?;

-- name: close_gate
UPDATE conveyor_gate SET closed_until = ?, pause = ?
WHERE name = ? AND key = ? AND (? OR closed_until < ?);

-- name: make_limit
INSERT INTO conveyor_limit (name) VALUES (?) ON CONFLICT DO NOTHING;

-- name: close_limit
UPDATE conveyor_limit SET closed_until = ?, pause = ? WHERE name = ? AND (? OR closed_until < ?);

-- name: tune_limit
UPDATE conveyor_limit SET rate = ?, most = ? WHERE name = ?;

-- name: prune_limits
DELETE FROM conveyor_limit WHERE closed_until <= ? AND rate IS NULL AND most IS NULL;

-- name: insert_slot
INSERT INTO conveyor_slot (gate, seq, line) VALUES (?, ?, ?) ON CONFLICT DO NOTHING;

-- name: slots_of
SELECT gate FROM conveyor_slot WHERE seq = ?;

-- name: free_slots
DELETE FROM conveyor_slot WHERE seq = ? RETURNING gate;

-- name: free_unawaited_slots
DELETE FROM conveyor_slot WHERE seq = ?;

-- name: free_slots_but_lines
DELETE FROM conveyor_slot WHERE seq = ? AND NOT line RETURNING gate;

-- name: oldest_holder
SELECT l.seq, l.cancel, w.token
FROM conveyor_slot s CROSS JOIN conveyor_lease l ON l.seq = s.seq
JOIN conveyor_worker w ON w.id = l.worker
WHERE s.gate = ? ORDER BY l.at, l.seq LIMIT 1;

-- name: gates_after
SELECT id FROM conveyor_gate WHERE id > ? ORDER BY id LIMIT ?;

-- name: prune_stalls
DELETE FROM conveyor_stall WHERE gate > ? AND gate <= ?
  AND NOT EXISTS (SELECT 1 FROM conveyor_lane l WHERE l.stall = conveyor_stall.id);

-- name: prune_gates
DELETE FROM conveyor_gate WHERE id > ? AND id <= ? AND tat <= ? AND closed_until <= ?
  AND NOT EXISTS (SELECT 1 FROM conveyor_slot s WHERE s.gate = conveyor_gate.id)
  AND NOT EXISTS (SELECT 1 FROM conveyor_stall s WHERE s.gate = conveyor_gate.id);

-- name: find_unique
SELECT id, began, expires FROM conveyor_unique WHERE queue = ? AND name = ? AND key = ?;

-- name: take_unique
INSERT OR REPLACE INTO conveyor_unique (queue, name, key, seq, id, began, expires)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: retake_unique
-- Only if nobody else has it; a period that is over is nobody.
INSERT INTO conveyor_unique (queue, name, key, seq, id, began) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET seq = excluded.seq, id = excluded.id, began = excluded.began,
                          expires = NULL
WHERE expires <= excluded.began;

-- name: give_unique
DELETE FROM conveyor_unique WHERE seq = ? AND expires IS NULL;

-- name: prune_uniques
DELETE FROM conveyor_unique WHERE (queue, name, key) IN (
    SELECT queue, name, key FROM conveyor_unique WHERE expires <= ? LIMIT ?
);

-- name: busy_gates
-- Gates that have a state, by limit and key.
SELECT g.name, g.key
FROM conveyor_gate g
WHERE (:every OR g.name = :limit)
  AND (g.tat > :now OR g.closed_until > :now
       OR EXISTS (SELECT 1 FROM conveyor_slot s WHERE s.gate = g.id))
ORDER BY g.name, g.key LIMIT :most;

-- name: told_limits
SELECT name, closed_until, pause, rate, most FROM conveyor_limit
WHERE (:every OR name = :limit)
  AND (closed_until > :now OR rate IS NOT NULL OR most IS NOT NULL) ORDER BY name;

-- name: pause
-- Who closed a gate; a closure of its key says more than one of the limit.
SELECT pause FROM conveyor_gate WHERE name = :limit AND key = :key AND closed_until > :now
UNION ALL
SELECT pause FROM conveyor_limit WHERE name = :limit AND closed_until > :now
LIMIT 1;

-- name: holders
SELECT t.id FROM conveyor_slot s CROSS JOIN conveyor_task t ON t.seq = s.seq
WHERE s.gate = ? ORDER BY s.seq LIMIT 100;

-- name: standing
-- Only queued tasks: one that is finished, leased or scheduled stands nowhere.
SELECT t.queue, t.lane, t.rank, coalesce(t.ord, t.seq), t.body,
       EXISTS (SELECT 1 FROM conveyor_parked p WHERE p.seq = t.seq)
FROM conveyor_task t
WHERE t.id = ?
  AND NOT EXISTS (SELECT 1 FROM conveyor_finished f WHERE f.seq = t.seq)
  AND NOT EXISTS (SELECT 1 FROM conveyor_lease l WHERE l.seq = t.seq)
  AND NOT EXISTS (SELECT 1 FROM conveyor_due d
                  WHERE d.queue = t.queue AND d.rank = t.rank AND d.ord = coalesce(t.ord, t.seq));

-- name: ahead_in_line
SELECT count(*) FROM (
    SELECT 1 FROM conveyor_ready WHERE queue = ? AND (rank, ord) < (?, ?) LIMIT ?
);

-- name: ahead_in_lane
SELECT count(*) FROM (
    SELECT 1 FROM conveyor_laned
    WHERE queue = ? AND lane = ?
      AND (front, rank, ord) < (SELECT w.front, w.rank, w.ord FROM conveyor_laned w
                                WHERE w.queue = ? AND w.lane = ? AND w.front IN (0, 1)
                                  AND w.rank = ? AND w.ord = ?)
    LIMIT ?
);
