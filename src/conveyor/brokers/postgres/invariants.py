"""The invariants as queries (contract, I1–I9), for `conveyor doctor`."""

from __future__ import annotations

from conveyor.brokers.base import Violation
from conveyor.brokers.postgres.connection import Connection

_SHOWN = 20
_PLACES = """(SELECT id FROM ready UNION ALL SELECT id FROM due UNION ALL SELECT id FROM lease
    UNION ALL SELECT id FROM parked UNION ALL SELECT id FROM finished)"""
_CHECKS = (
    (
        "I1 conservation",
        "tasks that wait nowhere, run nowhere and never ended",
        f"SELECT id FROM task WHERE id NOT IN {_PLACES}",
    ),
    (
        "I1 conservation",
        "tasks that are in two places at once",
        f"SELECT id FROM {_PLACES} AS places GROUP BY id HAVING count(*) > 1",
    ),
    (
        "I1 conservation",
        "ids that wait, run or ended without a task",
        f"SELECT places.id FROM {_PLACES} AS places LEFT JOIN task t ON t.id = places.id"
        " WHERE t.id IS NULL",
    ),
    (
        "I3 execution numbers",
        "running tasks whose number is not the next one",
        "SELECT l.id FROM lease l JOIN task t ON t.id = l.id WHERE l.execution <> t.execution + 1",
    ),
    (
        "I5 results",
        "tasks with a result that did not succeed",
        "SELECT id FROM finished WHERE result IS NOT NULL AND state <> 5",
    ),
    (
        "I7 keys",
        "keys of living tasks that are not held",
        "SELECT i.id FROM idem i JOIN task t ON t.id = i.id WHERE i.expires IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM finished f WHERE f.id = i.id)",
    ),
    (
        "claims",
        "waiting tasks that cancelling would not find",
        "SELECT r.id FROM ready r JOIN task t ON t.id = r.id WHERE r.execution <> t.execution"
        " OR r.queue <> t.queue OR r.vtime NOT IN (t.place, t.place - 60 * t.priority)",
    ),
)
_LATE = """
SELECT l.id FROM lease l LEFT JOIN worker w ON w.id = l.worker
WHERE coalesce(w.until, 0) < coalesce(
    $1::double precision, extract(epoch FROM clock_timestamp())) - 60 LIMIT $2"""


async def check(connection: Connection, now: float | None) -> list[Violation]:
    """Return what is broken."""
    found = []
    for invariant, message, statement in _CHECKS:
        rows = await connection.fetch(f"{statement} LIMIT {_SHOWN}")
        if rows:
            found.append(Violation(invariant, message, tuple(str(row[0]) for row in rows)))
    late = await connection.fetch(_LATE, now, _SHOWN)
    if late:
        message = "running tasks whose worker's lease ended over a minute ago: is a keeper running?"
        found.append(Violation("I9 live leases", message, tuple(str(row[0]) for row in late)))
    return found
