-- Everything known of tasks, one row each; the reader adds which ones.
SELECT t.id, t.body, t.execution AS execution_before, t.counters, t.error, t.reason,
    f.state AS final, f.execution AS last_execution, f.at AS finished_at, f.last, f.tail,
    f.reason AS cancel_reason,
    l.worker, l.at AS leased_at, l.execution AS leased, l.cancel, l.note,
    d.due, p.id IS NOT NULL AS parked, s.state
FROM task t
LEFT JOIN finished f ON f.id = t.id
LEFT JOIN lease l ON l.id = t.id
LEFT JOIN due d ON d.id = t.id
LEFT JOIN parked p ON p.id = t.id
CROSS JOIN LATERAL (SELECT CASE
    WHEN f.id IS NOT NULL THEN f.state::integer
    WHEN l.id IS NOT NULL THEN 3
    WHEN d.id IS NOT NULL THEN 1
    ELSE 2 END AS state) s
