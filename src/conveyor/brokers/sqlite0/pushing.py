"""Push: store new tasks, all or none."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from conveyor.brokers.base import Pushed
from conveyor.brokers.sqlite0.rows import pack, vtime
from conveyor.core.task import NewTask, State, Task

_INSERT = "INSERT OR IGNORE INTO task (id, queue, name, blob, place) VALUES (?, ?, ?, ?, ?)"
_READY = "INSERT INTO ready VALUES (?, ?, 0, ?)"
_DUE = "INSERT INTO due VALUES (?, ?, ?)"


class PushResult(NamedTuple):
    """The answers, and the queues where something can run now."""

    pushed: list[Pushed]
    available: set[str]


def push(
    connection: sqlite3.Connection, tasks: Sequence[NewTask], now: float, known_queues: set[str]
) -> PushResult:
    """Store tasks; repeats of an id or key change nothing."""
    answers = [
        _by_key(connection, new.task, now) if new.task.key is not None else None for new in tasks
    ]
    fresh = [new for new, answer in zip(tasks, answers, strict=True) if answer is None]
    stored = _insert(connection, fresh, now)
    for queue in {new.task.queue for new in stored} - known_queues:
        connection.execute("INSERT OR IGNORE INTO queue (name) VALUES (?)", (queue,))
    available = _place(connection, stored, now)
    return PushResult(
        [answer or Pushed(new.task.id) for new, answer in zip(tasks, answers, strict=True)],
        available,
    )


def _start(new: NewTask, now: float) -> float | None:
    """Return when the task becomes available, or None when it is now."""
    at = new.due_at if new.delay is None else now + new.delay
    return at if at is not None and at > now else None


def _row(new: NewTask, now: float) -> tuple[str, str, str, bytes, float]:
    task, at = new.task, _start(new, now)
    place = vtime(now, task.priority) if at is None else at
    return task.id, task.queue, task.name, pack(task), place


def _insert(connection: sqlite3.Connection, tasks: list[NewTask], now: float) -> list[NewTask]:
    rows = [_row(new, now) for new in tasks]
    if len(rows) == len({row[0] for row in rows}):
        before = connection.total_changes
        connection.execute("SAVEPOINT bulk")
        connection.executemany(_INSERT, rows)
        if connection.total_changes - before == len(rows):
            connection.execute("RELEASE bulk")
            return tasks
        connection.execute("ROLLBACK TO bulk")
        connection.execute("RELEASE bulk")
    return [
        new
        for new, row in zip(tasks, rows, strict=True)
        if connection.execute(_INSERT, row).rowcount == 1
    ]


def _place(connection: sqlite3.Connection, tasks: list[NewTask], now: float) -> set[str]:
    ready: list[tuple[str, float, str]] = []
    due: list[tuple[str, float, str]] = []
    events: list[tuple[str, str, str, int]] = []
    for new in tasks:
        task = new.task
        at = _start(new, now)
        if at is not None:
            due.append((task.queue, at, task.id))
            events.append((task.id, task.queue, State.SCHEDULED, 0))
        else:
            ready.append((task.queue, vtime(now, task.priority), task.id))
            events.append((task.id, task.queue, State.QUEUED, 0))
    connection.executemany(_READY, ready)
    connection.executemany(_DUE, due)
    record(connection, now, events)
    return {queue for queue, _, _ in ready} | {queue for queue, _, _ in due}


def _by_key(connection: sqlite3.Connection, task: Task, now: float) -> Pushed | None:
    """Claim the key for this task, or answer for the one that has it."""
    place = (task.queue, task.name, task.key)
    row = connection.execute(
        "SELECT id, digest FROM idem WHERE queue = ? AND name = ? AND key = ?"
        " AND (expires IS NULL OR expires > ?)",
        (*place, now),
    ).fetchone()
    if row is None:
        connection.execute(
            "INSERT OR REPLACE INTO idem VALUES (?, ?, ?, ?, ?, NULL)",
            (*place, task.id, task.digest or ""),
        )
        return None
    if row[0] == task.id:
        return Pushed(task.id)
    return Pushed(row[0], created=False, conflict=row[1] != (task.digest or ""))


def record(
    connection: sqlite3.Connection, now: float, events: list[tuple[str, str, str, int]]
) -> None:
    """Append the changes of one write to the event stream."""
    if events:
        connection.execute("INSERT INTO event (at, blob) VALUES (?, ?)", (now, pack(events)))
