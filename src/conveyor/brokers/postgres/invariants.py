"""The invariants as queries (contract, I1–I9), for `conveyor doctor`."""

from __future__ import annotations

from conveyor.brokers.base import Violation
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.statements import statements

_SHOWN = 20
_CHECKS = statements("invariants")


async def check(connection: Connection, now: float | None) -> list[Violation]:
    """Return what is broken."""
    found = []
    for title, statement in _CHECKS.items():
        invariant, _, message = title.partition(": ")
        given = [now] if "$1" in statement else []
        rows = await connection.fetch(f"{statement} LIMIT {_SHOWN}", *given)
        if rows:
            found.append(Violation(invariant, message, tuple(str(row[0]) for row in rows)))
    return found
