"""Leases of workers: renew, sweep, hold, lengthen; the leader's lease; pauses."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from conveyor.brokers.base import Holding, Note, Renewal, WorkerInfo
from conveyor.brokers.sqlite0.rows import lease_of, pack, unpack_note
from conveyor.brokers.sqlite0.stepping import cancels_of
from conveyor.core.task import Pause

_HELD = """
SELECT task.id, task.blob, lease.execution - 1, task.counters, task.cancel,
    lease.worker, lease.at, note.blob
FROM lease JOIN task ON task.id = lease.id
    LEFT JOIN note ON note.id = lease.id AND note.execution = lease.execution
WHERE lease.worker = ? ORDER BY lease.id LIMIT ?"""


def renew(
    connection: sqlite3.Connection,
    workers: Sequence[str],
    seconds: float,
    info: WorkerInfo | None,
    now: float,
) -> dict[str, Renewal]:
    """Renew, make or (with 0 seconds) end the leases of these workers."""
    answers: dict[str, Renewal] = {}
    for worker in workers:
        row = connection.execute("SELECT swept FROM worker WHERE id = ?", (worker,)).fetchone()
        if row is not None and row[0]:
            answers[worker] = Renewal(alive=False)
            continue
        if seconds <= 0:
            connection.execute("UPDATE worker SET until = ? WHERE id = ?", (now, worker))
        else:
            connection.execute(
                "INSERT INTO worker (id, until) VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET until = excluded.until",
                (worker, now + seconds),
            )
        answers[worker] = Renewal(alive=True, cancels=cancels_of(connection, worker))
    if info is not None:
        connection.execute("UPDATE worker SET info = ? WHERE id = ?", (pack(info), info.id))
    return answers


def held(
    connection: sqlite3.Connection, worker: str | None, limit: int, now: float
) -> list[Holding]:
    """Return what a worker holds, or sweep the workers whose lease is over."""
    if worker is not None:
        return _held_by(connection, worker, limit)
    connection.execute("UPDATE worker SET swept = 1 WHERE until <= ? AND NOT swept", (now,))
    over = connection.execute(
        "SELECT DISTINCT lease.worker FROM lease LEFT JOIN worker ON worker.id = lease.worker"
        " WHERE worker.id IS NULL OR worker.swept"
    ).fetchall()
    found: list[Holding] = []
    for (name,) in over:
        found += _held_by(connection, name, limit - len(found))
        if len(found) >= limit:
            break
    return found


def _held_by(connection: sqlite3.Connection, worker: str, limit: int) -> list[Holding]:
    rows = connection.execute(_HELD, (worker, limit)).fetchall()
    return [
        Holding(
            lease_of(row[:5], row[5], row[6]), unpack_note(row[7]) if row[7] is not None else None
        )
        for row in rows
    ]


def grace(connection: sqlite3.Connection, seconds: float, now: float) -> None:
    """Lengthen every lease that was not swept."""
    connection.execute(
        "UPDATE worker SET until = max(until, ?) + ? WHERE NOT swept AND until > ? - 3600",
        (now, seconds, now),
    )


def annotate(connection: sqlite3.Connection, notes: Sequence[Note]) -> list[bool]:
    """Keep the newest note of running executions."""
    answers = []
    for note in notes:
        row = connection.execute(
            "SELECT 1 FROM lease WHERE id = ? AND execution = ?", (note.id, note.execution)
        ).fetchone()
        if row is not None:
            connection.execute(
                "INSERT OR REPLACE INTO note VALUES (?, ?, ?)",
                (note.id, note.execution, pack(note)),
            )
        answers.append(row is not None)
    return answers


def lead(
    connection: sqlite3.Connection, role: str, holder: str, seconds: float, now: float
) -> float | None:
    """Take, keep or give up a leadership."""
    if seconds <= 0:
        connection.execute("DELETE FROM leader WHERE role = ? AND holder = ?", (role, holder))
        taken = connection.execute(
            "SELECT 1 FROM leader WHERE role = ? AND until > ?", (role, now)
        ).fetchone()
        return None if taken else now
    cursor = connection.execute(
        "INSERT INTO leader VALUES (?, ?, ?) ON CONFLICT (role) DO UPDATE"
        " SET holder = excluded.holder, until = excluded.until"
        " WHERE leader.holder = excluded.holder OR leader.until <= ?",
        (role, holder, now + seconds, now),
    )
    return now if cursor.rowcount else None


def pause(connection: sqlite3.Connection, queue: str, note: Pause | None) -> None:
    """Pause a queue, or with None let it run."""
    blob = msgspec.msgpack.encode(note) if note is not None else None
    connection.execute(
        "INSERT INTO queue VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET pause = excluded.pause",
        (queue, blob),
    )
