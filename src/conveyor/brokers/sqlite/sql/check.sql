-- Each statement finds the ids of tasks that break one invariant.

-- name: nowhere
SELECT t.id FROM conveyor_task t
WHERE NOT EXISTS (SELECT 1 FROM conveyor_finished f WHERE f.seq = t.seq)
  AND NOT EXISTS (SELECT 1 FROM conveyor_lease l WHERE l.seq = t.seq)
  AND NOT EXISTS (SELECT 1 FROM conveyor_parked p WHERE p.seq = t.seq)
  AND NOT EXISTS (SELECT 1 FROM conveyor_ready r
                  WHERE r.queue = t.queue AND r.rank = t.rank AND r.ord = coalesce(t.ord, t.seq)
                    AND r.seq = t.seq)
  AND NOT EXISTS (SELECT 1 FROM conveyor_due d
                  WHERE d.queue = t.queue AND d.rank = t.rank AND d.ord = coalesce(t.ord, t.seq)
                    AND d.seq = t.seq)
  AND NOT EXISTS (SELECT 1 FROM conveyor_laned l
                  WHERE l.queue = t.queue AND l.lane = t.lane AND l.front IN (0, 1)
                    AND l.rank = t.rank AND l.ord = coalesce(t.ord, t.seq) AND l.seq = t.seq)
LIMIT 100;

-- name: in_two_places
SELECT (SELECT id FROM conveyor_task t WHERE t.seq = places.seq) FROM (
    SELECT seq FROM conveyor_finished UNION ALL SELECT seq FROM conveyor_lease
    UNION ALL SELECT seq FROM conveyor_parked UNION ALL SELECT seq FROM conveyor_ready
    UNION ALL SELECT seq FROM conveyor_due UNION ALL SELECT seq FROM conveyor_laned
) places GROUP BY seq HAVING count(*) > 1 LIMIT 100;

-- name: not_a_task
SELECT NULL FROM (
    SELECT seq FROM conveyor_finished UNION ALL SELECT seq FROM conveyor_lease
    UNION ALL SELECT seq FROM conveyor_parked UNION ALL SELECT seq FROM conveyor_ready
    UNION ALL SELECT seq FROM conveyor_due UNION ALL SELECT seq FROM conveyor_execution
    UNION ALL SELECT seq FROM conveyor_key UNION ALL SELECT seq FROM conveyor_laned
    UNION ALL SELECT head FROM conveyor_lane UNION ALL SELECT seq FROM conveyor_slot
    UNION ALL SELECT seq FROM conveyor_unique WHERE expires IS NULL
) places WHERE seq NOT IN (SELECT seq FROM conveyor_task) LIMIT 100;

-- name: number_not_above
SELECT t.id FROM conveyor_execution e CROSS JOIN conveyor_task t ON t.seq = e.seq
LEFT JOIN conveyor_finished f ON f.seq = t.seq
LEFT JOIN conveyor_lease l ON l.seq = t.seq
WHERE e.number > coalesce(f.execution, t.execution) OR e.number >= l.execution
LIMIT 100;

-- name: result_without_success
SELECT t.id FROM conveyor_finished f CROSS JOIN conveyor_task t ON t.seq = f.seq
WHERE f.state <> 5 AND f.result IS NOT NULL LIMIT 100;

-- name: holder_unknown
SELECT t.id FROM conveyor_lease l CROSS JOIN conveyor_task t ON t.seq = l.seq
WHERE NOT EXISTS (SELECT 1 FROM conveyor_worker w WHERE w.id = l.worker) LIMIT 100;

-- name: key_ends_too_soon
SELECT t.id FROM conveyor_key k CROSS JOIN conveyor_task t ON t.seq = k.seq
WHERE k.expires IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM conveyor_finished f WHERE f.seq = k.seq) LIMIT 100;

-- name: not_rescued
SELECT t.id FROM conveyor_lease l
CROSS JOIN conveyor_worker w ON w.id = l.worker
CROSS JOIN conveyor_task t ON t.seq = l.seq
WHERE w.until + 300000000 <= ? AND l.at + 300000000 <= ? LIMIT 100;

-- name: lane_unseen
SELECT t.id FROM conveyor_laned w CROSS JOIN conveyor_task t ON t.seq = w.seq
WHERE NOT EXISTS (SELECT 1 FROM conveyor_lane l WHERE l.queue = w.queue AND l.lane = w.lane)
LIMIT 100;

-- name: head_elsewhere
SELECT t.id FROM conveyor_lane l CROSS JOIN conveyor_task t ON t.seq = l.head
WHERE NOT EXISTS (SELECT 1 FROM conveyor_laned w
                  WHERE w.queue = l.queue AND w.lane = l.lane AND w.front IN (0, 1)
                    AND w.rank = t.rank AND w.ord = coalesce(t.ord, t.seq) AND w.seq = t.seq)
LIMIT 100;

-- name: stalled_nowhere
SELECT t.id FROM conveyor_lane l CROSS JOIN conveyor_task t ON t.seq = l.head
WHERE l.stall IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM conveyor_stall s CROSS JOIN conveyor_gate g ON g.id = s.gate
                  WHERE s.id = l.stall AND s.queue = l.queue)
LIMIT 100;

-- name: slot_without_lease
SELECT t.id FROM conveyor_slot s CROSS JOIN conveyor_task t ON t.seq = s.seq
WHERE NOT EXISTS (SELECT 1 FROM conveyor_lease l WHERE l.seq = s.seq)
  AND (NOT s.line OR EXISTS (SELECT 1 FROM conveyor_finished f WHERE f.seq = s.seq))
LIMIT 100;

-- name: unique_after_end
SELECT t.id FROM conveyor_unique u CROSS JOIN conveyor_task t ON t.seq = u.seq
WHERE u.expires IS NULL AND EXISTS (SELECT 1 FROM conveyor_finished f WHERE f.seq = u.seq)
LIMIT 100;
