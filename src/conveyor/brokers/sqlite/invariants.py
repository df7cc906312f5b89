"""The invariants of the delivery contract as queries (I1, I3, I5, I6, I7, I9)."""

from __future__ import annotations

import sqlite3

from conveyor.brokers.base import Violation
from conveyor.brokers.sqlite.rows import unpack_id
from conveyor.brokers.sqlite.statements import statements

SQL = statements("check")
_MEANING = {
    "nowhere": ("I1", "a task is in no state: it would never run"),
    "in_two_places": ("I1", "a task is in two states at once"),
    "not_a_task": ("I1", "something is kept of a task that does not exist"),
    "number_not_above": ("I3", "an execution number is not above those before it"),
    "result_without_success": ("I5", "a task that did not succeed has a result"),
    "holder_unknown": ("I6", "a task runs under a lease that nobody has"),
    "key_ends_too_soon": ("I7", "the key of a living task has an end"),
    "not_rescued": (
        "I9",
        "a task is running though its worker's lease ended more than 5 minutes ago: no keeper runs",
    ),
    "lane_unseen": ("I1", "a task waits in a lane that nobody looks at: it would never run"),
    "head_elsewhere": ("I1", "the head of a lane does not wait in it: the lane would never move"),
    "stalled_nowhere": ("I1", "a lane waits for no gate that there is: it would never move"),
    "slot_without_lease": ("I6", "a slot of a limit is taken by a task that does not run"),
    "unique_after_end": ("I7", "a finished task still holds its unique key"),
}


def check(connection: sqlite3.Connection, now: int) -> list[Violation]:
    """Return every invariant that is broken, with up to a hundred ids each."""
    found = [
        Violation("storage", f"the file is damaged: {text}")
        for (text,) in connection.execute("PRAGMA quick_check(10)")
        if text != "ok"
    ]
    for name, (invariant, message) in _MEANING.items():
        statement = SQL[name]
        rows = connection.execute(statement, (now,) * statement.count("?")).fetchall()
        if rows:
            ids = tuple(unpack_id(packed) for (packed,) in rows if packed is not None)
            found.append(Violation(invariant, message, ids))
    return found
