"""The invariants as queries (contract, I1–I9), for `conveyor doctor`."""

from __future__ import annotations

import sqlite3

from conveyor.brokers.base import Violation

_GRACE = 60.0
_SHOWN = 20

_CHECKS = (
    (
        "I1 conservation",
        "living tasks that wait nowhere and run nowhere",
        """SELECT id FROM task WHERE finished IS NULL
           AND id NOT IN (SELECT id FROM ready) AND id NOT IN (SELECT id FROM due)
           AND id NOT IN (SELECT id FROM lease) AND id NOT IN (SELECT id FROM parked)""",
    ),
    (
        "I1 conservation",
        "tasks that are in two places at once",
        """SELECT id FROM (SELECT id FROM ready UNION ALL SELECT id FROM due
           UNION ALL SELECT id FROM lease UNION ALL SELECT id FROM parked)
           GROUP BY id HAVING count(*) > 1""",
    ),
    (
        "I4 terminal is final",
        "finished tasks that still wait or run",
        """SELECT task.id FROM task WHERE finished IS NOT NULL
           AND (id IN (SELECT id FROM ready) OR id IN (SELECT id FROM due)
           OR id IN (SELECT id FROM lease) OR id IN (SELECT id FROM parked))""",
    ),
    (
        "I3 execution numbers",
        "running tasks whose number is not the next one",
        """SELECT task.id FROM lease JOIN task ON task.id = lease.id
           WHERE lease.execution <> task.execution + 1""",
    ),
    (
        "I5 results",
        "tasks with a result that did not succeed",
        "SELECT id FROM task WHERE result IS NOT NULL AND state <> 'succeeded'",
    ),
    (
        "I7 keys",
        "keys of living tasks that are not held",
        """SELECT idem.id FROM idem JOIN task ON task.id = idem.id
           WHERE task.finished IS NULL AND idem.expires IS NOT NULL""",
    ),
)


def check(connection: sqlite3.Connection, now: float) -> list[Violation]:
    """Return what is broken."""
    found = []
    for invariant, message, statement in _CHECKS:
        ids = [row[0] for row in connection.execute(f"{statement} LIMIT {_SHOWN}")]
        if ids:
            found.append(Violation(invariant, message, tuple(ids)))
    late = connection.execute(
        "SELECT lease.id FROM lease LEFT JOIN worker ON worker.id = lease.worker"
        " WHERE coalesce(worker.until, 0) < ? LIMIT ?",
        (now - _GRACE, _SHOWN),
    ).fetchall()
    if late:
        message = "running tasks whose worker's lease ended over a minute ago: is a keeper running?"
        found.append(Violation("I9 live leases", message, tuple(row[0] for row in late)))
    return found
