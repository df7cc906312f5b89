"""Operators' verbs and housekeeping: cancel, requeue, discard, promote, prune."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from conveyor.brokers.base import RETENTION_SECONDS, Tidied
from conveyor.brokers.sqlite0.pushing import record
from conveyor.brokers.sqlite0.rows import unpack_task, vtime
from conveyor.brokers.sqlite0.stepping import promote
from conveyor.core.task import State, Task

_EVENTS_KEPT = 100_000


class Found(NamedTuple):
    """Where a task is now."""

    task: Task
    state: State
    execution: int
    worker: str | None
    place: float


def find(connection: sqlite3.Connection, task_id: str) -> Found | None:
    """Look up one task."""
    row = connection.execute(
        "SELECT task.blob, task.state, task.execution, lease.worker, lease.execution, task.place"
        " FROM task LEFT JOIN lease ON lease.id = task.id WHERE task.id = ?",
        (task_id,),
    ).fetchone()
    if row is None:
        return None
    task = unpack_task(row[0])
    if row[3] is not None:
        return Found(task, State.RUNNING, row[4], row[3], row[5])
    if row[1] != State.QUEUED:
        return Found(task, State(row[1]), row[2], None, row[5])
    due = connection.execute(
        "SELECT 1 FROM due WHERE queue = ? AND due = ? AND id = ?", (task.queue, row[5], task_id)
    ).fetchone()
    state = State.SCHEDULED if due is not None else State.QUEUED
    return Found(task, state, row[2], None, row[5])


def cancel(
    connection: sqlite3.Connection, ids: Sequence[str], by: str, reason: str, now: float
) -> tuple[dict[str, State], set[str]]:
    """Cancel; returns the states and the workers to tell."""
    text = reason or (f"cancelled by {by}" if by else "cancelled")
    states: dict[str, State] = {}
    workers: set[str] = set()
    for task_id in ids:
        found = find(connection, task_id)
        if found is None:
            continue
        states[task_id] = found.state
        if found.state is State.RUNNING:
            connection.execute(
                "UPDATE task SET cancel = coalesce(cancel, ?) WHERE id = ?", (text, task_id)
            )
            workers.add(found.worker or "")
        elif not found.state.is_final:
            _cancel_now(connection, found, text, now)
            states[task_id] = State.CANCELLED
    return states, workers


def _cancel_now(connection: sqlite3.Connection, found: Found, reason: str, now: float) -> None:
    task = found.task
    _leave(connection, found)
    connection.execute(
        "UPDATE task SET state = ?, finished = ?, expires = ?, cancel = ?, reason = ? WHERE id = ?",
        (State.CANCELLED, now, now + RETENTION_SECONDS, reason, reason, task.id),
    )
    _expire_key(connection, task, now + RETENTION_SECONDS)
    record(connection, now, [(task.id, task.queue, State.CANCELLED, found.execution)])


def _leave(connection: sqlite3.Connection, found: Found) -> None:
    """Take a waiting task from wherever it waits."""
    task, place = found.task, found.place
    # A promoted task kept the place it had in `due`; its vtime follows from that.
    connection.execute(
        "DELETE FROM ready WHERE queue = ? AND vtime IN (?, ?) AND turn = ? AND id = ?",
        (task.queue, place, vtime(place, task.priority), found.execution, task.id),
    )
    connection.execute(
        "DELETE FROM due WHERE queue = ? AND due = ? AND id = ?", (task.queue, place, task.id)
    )
    connection.execute("DELETE FROM parked WHERE name = ? AND id = ?", (task.name, task.id))


def _expire_key(connection: sqlite3.Connection, task: Task, at: float | None) -> None:
    if task.key is not None:
        connection.execute(
            "UPDATE idem SET expires = ? WHERE queue = ? AND name = ? AND key = ? AND id = ?",
            (at, task.queue, task.name, task.key, task.id),
        )


def requeue(
    connection: sqlite3.Connection, ids: Sequence[str], now: float
) -> tuple[list[str], set[str]]:
    """Give dead letters another life, and make scheduled tasks due."""
    changed: list[str] = []
    queues: set[str] = set()
    for task_id in dict.fromkeys(ids):
        found = find(connection, task_id)
        if found is None or found.state not in {State.FAILED, State.CANCELLED, State.SCHEDULED}:
            continue
        task = found.task
        if found.state is State.SCHEDULED:
            connection.execute("DELETE FROM due WHERE queue = ? AND id = ?", (task.queue, task_id))
        else:
            _revive(connection, task)
        connection.execute(
            "INSERT INTO ready VALUES (?, ?, ?, ?)",
            (task.queue, vtime(now, task.priority), found.execution, task_id),
        )
        connection.execute(
            "UPDATE task SET place = ? WHERE id = ?", (vtime(now, task.priority), task_id)
        )
        record(connection, now, [(task_id, task.queue, State.QUEUED, found.execution)])
        changed.append(task_id)
        queues.add(task.queue)
    return changed, queues


def _revive(connection: sqlite3.Connection, task: Task) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO execution SELECT id, execution, last FROM task"
        " WHERE id = ? AND last IS NOT NULL",
        (task.id,),
    )
    connection.execute(
        "UPDATE task SET state = 'queued', counters = NULL, cancel = NULL, finished = NULL,"
        " expires = NULL, error = NULL, reason = NULL, last = NULL WHERE id = ?",
        (task.id,),
    )
    _expire_key(connection, task, None)


def discard(connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Delete dead letters."""
    gone: list[str] = []
    for task_id in dict.fromkeys(ids):
        found = find(connection, task_id)
        if found is None or found.state not in {State.FAILED, State.CANCELLED}:
            continue
        _forget(connection, [task_id])
        if found.task.key is not None:
            connection.execute(
                "DELETE FROM idem WHERE id = ? AND key = ?", (task_id, found.task.key)
            )
        gone.append(task_id)
    return gone


def _forget(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    rows = [(task_id,) for task_id in ids]
    connection.executemany("DELETE FROM execution WHERE id = ?", rows)
    connection.executemany("DELETE FROM task WHERE id = ?", rows)


def tidy(connection: sqlite3.Connection, limit: int, now: float) -> tuple[Tidied, set[str]]:
    """Promote due tasks of every queue; prune what is past its time."""
    promoted, queues = 0, set()
    for (queue,) in connection.execute("SELECT DISTINCT queue FROM due").fetchall():
        moved = promote(connection, queue, now, limit)
        promoted += moved
        if moved:
            queues.add(queue)
    return Tidied(promoted=promoted, pruned=_prune(connection, limit, now)), queues


def _prune(connection: sqlite3.Connection, limit: int, now: float) -> int:
    rows = connection.execute(
        "SELECT id FROM task WHERE finished <= ?1 AND expires <= ?2 AND finished IS NOT NULL"
        " ORDER BY finished LIMIT ?3",
        (now - RETENTION_SECONDS, now, limit),
    ).fetchall()
    _forget(connection, [row[0] for row in rows])
    pruned = len(rows)
    for statement, values in (
        ("DELETE FROM idem WHERE expires <= ?", (now,)),
        ("DELETE FROM worker WHERE until <= ?", (now - 3_600,)),
        (
            "DELETE FROM event WHERE seq <= (SELECT max(seq) FROM event) - ?",
            (_EVENTS_KEPT,),
        ),
        ("DELETE FROM event WHERE at <= ?", (now - RETENTION_SECONDS,)),
    ):
        pruned += connection.execute(statement, values).rowcount
    return pruned
