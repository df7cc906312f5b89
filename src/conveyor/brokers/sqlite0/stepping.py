"""Step and adopt: settle what ended, promote what is due, lease what is next."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from conveyor.brokers.base import (
    DEAD_RETENTION_SECONDS,
    RETENTION_SECONDS,
    Settlement,
    Step,
    StepReply,
)
from conveyor.brokers.sqlite0.pushing import record
from conveyor.brokers.sqlite0.rows import lease_of, pack, packed_counters, unpack_task, vtime
from conveyor.core.task import FINAL_STATES, Lease, State

_PROMOTED = 1_000
_CLAIM = """
SELECT task.id, task.blob, task.execution, task.counters, task.cancel, ready.vtime, ready.turn
FROM ready JOIN task ON task.id = ready.id
WHERE ready.queue = ? ORDER BY ready.vtime, ready.turn, ready.id LIMIT ?"""
_TAKE = "DELETE FROM ready WHERE queue = ? AND (vtime, turn, id) <= (?, ?, ?)"
_LEASE = "INSERT INTO lease VALUES (?, ?, ?, ?)"
_END = "DELETE FROM lease WHERE id = ? AND execution = ?"
_FINISH = """
UPDATE task SET state = ?, execution = ?, counters = ?, finished = ?, result = ?, expires = ?,
    error = ?, reason = ?, last = ? WHERE id = ?"""
_LIVE_ON = """
UPDATE task SET execution = ?, counters = ?, error = coalesce(?, error), reason = ?,
    place = ? WHERE id = ?"""


class StepResult(NamedTuple):
    """The reply, and the queues where something was put back or became due."""

    reply: StepReply
    available: set[str]


def step(connection: sqlite3.Connection, asked: Step, now: float) -> StepResult:
    """Do one step."""
    refused, available = settle(connection, asked.settlements, now)
    for queue in asked.queues:
        if promote(connection, queue, now, _PROMOTED):
            available.add(queue)
    leases: list[Lease] = []
    if asked.want and lease_is_live(connection, asked.worker, now):
        for queue in asked.queues:
            if len(leases) < asked.want:
                leases += _claim(connection, asked.worker, queue, asked.want - len(leases), now)
    return StepResult(
        StepReply(
            leases=leases,
            refused=refused,
            cancels=cancels_of(connection, asked.worker),
            next_due=_next_due(connection, asked.queues, now),
        ),
        available,
    )


def lease_is_live(connection: sqlite3.Connection, worker: str, now: float) -> bool:
    """Whether the worker may lease."""
    row = connection.execute(
        "SELECT 1 FROM worker WHERE id = ? AND until > ? AND NOT swept", (worker, now)
    ).fetchone()
    return row is not None


def cancels_of(connection: sqlite3.Connection, worker: str) -> list[str]:
    """Return the running tasks this worker should stop."""
    rows = connection.execute(
        "SELECT task.id FROM lease JOIN task ON task.id = lease.id"
        " WHERE lease.worker = ? AND task.cancel IS NOT NULL",
        (worker,),
    )
    return [row[0] for row in rows]


def promote(connection: sqlite3.Connection, queue: str, now: float, limit: int) -> int:
    """Move due tasks of a queue among the waiting ones."""
    rows = connection.execute(
        "SELECT due.id, due.due, task.blob, task.execution FROM due JOIN task ON task.id = due.id"
        " WHERE due.queue = ? AND due.due <= ? ORDER BY due.due LIMIT ?",
        (queue, now, limit),
    ).fetchall()
    if not rows:
        return 0
    connection.executemany(
        "DELETE FROM due WHERE queue = ? AND due = ? AND id = ?",
        [(queue, due, task_id) for task_id, due, _, _ in rows],
    )
    connection.executemany(
        "INSERT INTO ready VALUES (?, ?, ?, ?)",
        [(queue, vtime(due, unpack_task(blob).priority), n, i) for i, due, blob, n in rows],
    )
    record(connection, now, [(row[0], queue, State.QUEUED, 0) for row in rows])
    return len(rows)


def _next_due(connection: sqlite3.Connection, queues: Sequence[str], now: float) -> float | None:
    firsts = [
        connection.execute("SELECT min(due) FROM due WHERE queue = ?", (queue,)).fetchone()[0]
        for queue in queues
    ]
    times = [at for at in firsts if at is not None]
    return max(0.0, min(times) - now) if times else None


def _claim(
    connection: sqlite3.Connection, worker: str, queue: str, want: int, now: float
) -> list[Lease]:
    paused = connection.execute(
        "SELECT 1 FROM queue WHERE name = ? AND pause IS NOT NULL", (queue,)
    ).fetchone()
    if paused:
        return []
    rows = connection.execute(_CLAIM, (queue, want)).fetchall()
    if not rows:
        return []
    connection.execute(_TAKE, (queue, rows[-1][5], rows[-1][6], rows[-1][0]))
    return _grant(connection, worker, [row[:5] for row in rows], now)


def _grant(
    connection: sqlite3.Connection, worker: str, rows: list[tuple[Any, ...]], now: float
) -> list[Lease]:
    leases = [lease_of(row, worker, now) for row in rows]
    connection.executemany(
        _LEASE, [(lease.task.id, worker, lease.execution, now) for lease in leases]
    )
    record(
        connection,
        now,
        [(x.task.id, x.task.queue, State.RUNNING, x.execution) for x in leases],
    )
    return leases


def adopt(  # noqa: PLR0917 - the verb's own arguments
    connection: sqlite3.Connection,
    worker: str,
    names: Sequence[str],
    queues: Sequence[str],
    want: int,
    now: float,
) -> list[Lease]:
    """Lease parked tasks that this worker knows."""
    if not lease_is_live(connection, worker, now):
        return []
    known, served = set(names), set(queues)
    paused = {r[0] for r in connection.execute("SELECT name FROM queue WHERE pause IS NOT NULL")}
    chosen = [
        (name, task_id)
        for name, task_id, queue in connection.execute(
            "SELECT name, id, queue FROM parked ORDER BY id"
        )
        if name in known and queue in served and queue not in paused
    ][:want]
    if not chosen:
        return []
    connection.executemany("DELETE FROM parked WHERE name = ? AND id = ?", chosen)
    rows = [
        connection.execute(
            "SELECT id, blob, execution, counters, cancel FROM task WHERE id = ?", (task_id,)
        ).fetchone()
        for _, task_id in chosen
    ]
    return _grant(connection, worker, rows, now)


def settle(
    connection: sqlite3.Connection, settlements: Sequence[Settlement], now: float
) -> tuple[list[str], set[str]]:
    """End executions; returns the refused ids and the queues where something can run again."""
    if not settlements:
        return [], set()
    accepted, refused = _fence(connection, settlements)
    asked = _cancel_requests(connection, accepted)
    finishing: list[tuple[Any, ...]] = []
    living: list[Settlement] = []
    events: list[tuple[str, str, str, int]] = []
    for entry in accepted:
        lease, to = entry.lease, entry.transition.to
        if to not in FINAL_STATES and lease.task.id in asked:
            to = State.CANCELLED
        if to in FINAL_STATES:
            finishing.append(_final_row(entry, to, asked.get(lease.task.id), now))
        else:
            living.append(entry)
        events.append((lease.task.id, lease.task.queue, to, lease.execution))
    connection.executemany(_FINISH, finishing)
    _after_end(connection, accepted, asked, now)
    available = _put_back(connection, living, now)
    record(connection, now, events)
    return refused, available


def _fence(
    connection: sqlite3.Connection, settlements: Sequence[Settlement]
) -> tuple[list[Settlement], list[str]]:
    """End the leases that are these very executions."""
    pairs = [(entry.lease.task.id, entry.lease.execution) for entry in settlements]
    connection.execute("SAVEPOINT fence")
    before = connection.total_changes
    connection.executemany(_END, pairs)
    if connection.total_changes - before == len(pairs):
        connection.execute("RELEASE fence")
        return list(settlements), []
    connection.execute("ROLLBACK TO fence")
    connection.execute("RELEASE fence")
    accepted, refused = [], []
    for entry, pair in zip(settlements, pairs, strict=True):
        if connection.execute(_END, pair).rowcount == 1:
            accepted.append(entry)
        else:
            refused.append(pair[0])
    return accepted, refused


def _cancel_requests(
    connection: sqlite3.Connection, settlements: list[Settlement]
) -> dict[str, str]:
    """Return the cancellations on record for tasks that might live on."""
    found: dict[str, str] = {}
    for entry in settlements:
        task_id = entry.lease.task.id
        if entry.transition.to is not State.SUCCEEDED:
            row = connection.execute("SELECT cancel FROM task WHERE id = ?", (task_id,)).fetchone()
            if row is not None and row[0] is not None:
                found[task_id] = row[0]
    return found


def _final_row(
    entry: Settlement, to: State, cancel_reason: str | None, now: float
) -> tuple[Any, ...]:
    lease, transition = entry.lease, entry.transition
    task = lease.task
    keep = DEAD_RETENTION_SECONDS if to is State.FAILED else RETENTION_SECONDS
    expires = now + (task.result_ttl if to is State.SUCCEEDED else keep)
    return (
        to.value,
        lease.execution,
        packed_counters(transition.counters),
        now,
        transition.result if to is State.SUCCEEDED else None,
        expires,
        pack(transition.error) if transition.error is not None else None,
        cancel_reason if to is State.CANCELLED else transition.reason,
        pack(entry.execution) if entry.execution is not None else None,
        task.id,
    )


def _after_end(
    connection: sqlite3.Connection,
    accepted: list[Settlement],
    cancels: dict[str, str],
    now: float,
) -> None:
    """What only some tasks leave behind: earlier executions, notes, keys."""
    keyed = []
    for entry in accepted:
        task, to = entry.lease.task, entry.transition.to
        if task.key is not None and (to in FINAL_STATES or task.id in cancels):
            keyed.append((now + RETENTION_SECONDS, task.queue, task.name, task.key, task.id))
    if keyed:
        connection.executemany(
            "UPDATE idem SET expires = ? WHERE queue = ? AND name = ? AND key = ? AND id = ?", keyed
        )
    if connection.execute("SELECT 1 FROM note LIMIT 1").fetchone():
        connection.executemany(
            "DELETE FROM note WHERE id = ?", [(entry.lease.task.id,) for entry in accepted]
        )


def _put_back(connection: sqlite3.Connection, living: list[Settlement], now: float) -> set[str]:
    available: set[str] = set()
    for entry in living:
        lease, transition = entry.lease, entry.transition
        task = lease.task
        if entry.execution is not None:
            connection.execute(
                "INSERT INTO execution VALUES (?, ?, ?)",
                (task.id, lease.execution, pack(entry.execution)),
            )
        later = transition.to is State.SCHEDULED and transition.delay > 0
        place = now + transition.delay if later else vtime(now, task.priority)
        connection.execute(
            _LIVE_ON,
            (
                lease.execution,
                packed_counters(transition.counters),
                pack(transition.error) if transition.error is not None else None,
                transition.reason,
                place,
                task.id,
            ),
        )
        if transition.parked:
            connection.execute(
                "INSERT INTO parked VALUES (?, ?, ?)", (task.name, task.id, task.queue)
            )
        elif later:
            connection.execute("INSERT INTO due VALUES (?, ?, ?)", (task.queue, place, task.id))
        else:
            connection.execute(
                "INSERT INTO ready VALUES (?, ?, ?, ?)",
                (task.queue, place, lease.execution, task.id),
            )
            available.add(task.queue)
    return available
