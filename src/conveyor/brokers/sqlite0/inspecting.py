"""The read-only view, on a connection of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from conveyor.brokers.base import Event, Filter, QueueInfo, Violation, WorkerInfo
from conveyor.brokers.sqlite0 import checking
from conveyor.brokers.sqlite0.rows import (
    counters_of,
    unpack_error,
    unpack_events,
    unpack_execution,
    unpack_note,
    unpack_pause,
    unpack_task,
    unpack_worker,
)
from conveyor.core.codec import decode
from conveyor.core.errors import TaskNotFound
from conveyor.core.task import SECONDS_PER_LEVEL, Execution, Final, State, TaskInfo

T = TypeVar("T")
Read = Callable[[Callable[[sqlite3.Connection, float], T]], Awaitable[T]]

_COLUMNS = """
SELECT task.id, task.blob, task.state, task.execution, task.counters, task.cancel, task.finished,
    task.error, task.reason, task.last, lease.worker, lease.at, lease.execution, due.due,
    parked.id, note.blob
FROM task LEFT JOIN lease ON lease.id = task.id
    LEFT JOIN due ON task.state = 'queued' AND due.queue = task.queue AND due.due = task.place
        AND due.id = task.id
    LEFT JOIN parked ON parked.name = task.name AND parked.id = task.id
    LEFT JOIN note ON note.id = task.id AND note.execution = lease.execution"""
_STATE = """CASE WHEN lease.id IS NOT NULL THEN 'running'
    WHEN task.state <> 'queued' THEN task.state
    WHEN due.id IS NOT NULL THEN 'scheduled' ELSE 'queued' END"""


class SQLiteInspector:
    """Answers questions about the queue from the rows themselves."""

    def __init__(self, read: Callable[[Callable[[sqlite3.Connection, float], Any]], Any]) -> None:
        self._read = read

    async def get(self, task_id: str) -> TaskInfo:
        """Everything known of one task. Raises `TaskNotFound`."""
        info: TaskInfo | None = await self._read(lambda c, _: _one(c, task_id))
        if info is None:
            raise TaskNotFound(task_id)
        return info

    async def tasks(self, where: Filter) -> list[TaskInfo]:
        """Tasks matching `where`, newest first."""
        found: list[TaskInfo] = await self._read(lambda c, _: _list(c, where))
        return found

    async def counts(self) -> dict[State, int]:
        """Tasks by state."""
        found: dict[State, int] = await self._read(lambda c, _: _counts(c))
        return found

    async def queue_names(self) -> list[str]:
        """Names of all queues."""
        names: list[str] = await self._read(
            lambda c, _: [row[0] for row in c.execute("SELECT name FROM queue ORDER BY name")]
        )
        return names

    async def queues(self) -> list[QueueInfo]:
        """Every queue as it stands."""
        found: list[QueueInfo] = await self._read(_queues)
        return found

    async def workers(self) -> list[WorkerInfo]:
        """Workers with a live lease."""
        found: list[WorkerInfo] = await self._read(_workers)
        return found

    async def events(self, after: str = "", limit: int = 1_000) -> list[Event]:
        """Changes of state after a cursor."""
        found: list[Event] = await self._read(lambda c, _: _events(c, after, limit))
        return found

    async def check(self) -> list[Violation]:
        """Verify the invariants."""
        found: list[Violation] = await self._read(checking.check)
        return found


def _info(row: tuple[Any, ...], executions: tuple[Execution, ...] = ()) -> TaskInfo:
    task = unpack_task(row[1])
    counters = counters_of(row[4])
    running, due, parked = row[10] is not None, row[13], row[14] is not None
    state = State.RUNNING if running else State(row[2])
    if state is State.QUEUED and due is not None:
        state = State.SCHEDULED
    last = unpack_execution(row[9]) if row[9] is not None else None
    args, kwargs = decode(task.payload)
    return TaskInfo(
        id=task.id,
        name=task.name,
        queue=task.queue,
        priority=task.priority,
        state=state,
        flags=tuple(
            flag
            for flag, shown in (
                ("retrying", state is State.SCHEDULED and counters.attempts > 0),
                ("cancelling", running and row[5] is not None),
                ("unroutable", parked),
                ("quarantined", state is State.FAILED and (row[8] or "").startswith("poison")),
            )
            if shown
        ),
        args=tuple(args),
        kwargs=kwargs,
        key=task.key,
        enqueued_at=task.enqueued_at,
        due_at=due,
        started_at=row[11] if running else (last.started_at if last else None),
        finished_at=row[6],
        execution=row[12] if running else row[3],
        attempts=counters.attempts,
        max_attempts=task.max_attempts,
        timeout=task.timeout,
        worker=row[10] or (last.worker if last else None),
        progress=unpack_note(row[15]).progress if row[15] is not None else None,
        error=unpack_error(row[7]) if row[7] is not None else None,
        reason=row[8],
        executions=executions,
        headers=task.headers,
    )


def _one(connection: sqlite3.Connection, task_id: str) -> TaskInfo | None:
    row = connection.execute(f"{_COLUMNS} WHERE task.id = ?", (task_id,)).fetchone()
    if row is None:
        return None
    blobs = connection.execute(
        "SELECT blob FROM execution WHERE id = ? ORDER BY number", (task_id,)
    ).fetchall()
    executions = [unpack_execution(blob) for (blob,) in blobs]
    if row[9] is not None:
        executions.append(unpack_execution(row[9]))
    return _info(row, tuple(executions))


def _list(connection: sqlite3.Connection, where: Filter) -> list[TaskInfo]:
    clauses, values = ["1"], []
    if where.queue is not None:
        clauses.append("task.queue = ?")
        values.append(where.queue)
    if where.name is not None:
        clauses.append("task.name = ?")
        values.append(where.name)
    if where.before is not None:
        clauses.append("task.id < ?")
        values.append(where.before)
    if where.states:
        marks = ", ".join("?" * len(where.states))
        clauses.append(f"{_STATE} IN ({marks})")
        values += [state.value for state in where.states]
    statement = f"{_COLUMNS} WHERE {' AND '.join(clauses)} ORDER BY task.id DESC LIMIT ?"
    return [_info(row) for row in connection.execute(statement, (*values, where.limit))]


def _counts(connection: sqlite3.Connection) -> dict[State, int]:
    counts = {
        State(name): number
        for name, number in connection.execute(
            "SELECT state, count(*) FROM task WHERE finished IS NOT NULL GROUP BY state"
        )
    }
    for state, table in ((State.RUNNING, "lease"), (State.SCHEDULED, "due")):
        counts[state] = connection.execute(
            f"SELECT count(*) FROM {table}"  # noqa: S608 - one of two names
        ).fetchone()[0]
    counts[State.QUEUED] = connection.execute(
        "SELECT (SELECT count(*) FROM ready) + (SELECT count(*) FROM parked)"
    ).fetchone()[0]
    return {state: number for state, number in counts.items() if number}


def _queues(connection: sqlite3.Connection, now: float) -> list[QueueInfo]:
    def by_queue(statement: str) -> dict[str, int]:
        return dict(connection.execute(statement).fetchall())

    queued = by_queue("SELECT queue, count(*) FROM ready GROUP BY queue")
    scheduled = by_queue("SELECT queue, count(*) FROM due GROUP BY queue")
    parked = by_queue("SELECT queue, count(*) FROM parked GROUP BY queue")
    running = by_queue(
        "SELECT task.queue, count(*) FROM lease JOIN task ON task.id = lease.id GROUP BY task.queue"
    )
    rows = connection.execute("SELECT name, pause FROM queue ORDER BY name").fetchall()
    return [
        QueueInfo(
            name=name,
            queued=queued.get(name, 0),
            scheduled=scheduled.get(name, 0),
            running=running.get(name, 0),
            parked=parked.get(name, 0),
            oldest_wait=_oldest(connection, name, now) if queued.get(name) else None,
            pause=unpack_pause(pause) if pause is not None else None,
        )
        for name, pause in rows
    ]


def _oldest(connection: sqlite3.Connection, queue: str, now: float) -> float:
    blob, vtime = connection.execute(
        "SELECT task.blob, ready.vtime FROM ready JOIN task ON task.id = ready.id"
        " WHERE ready.queue = ? ORDER BY ready.vtime LIMIT 1",
        (queue,),
    ).fetchone()
    available = vtime + SECONDS_PER_LEVEL * unpack_task(blob).priority
    return max(0.0, now - float(available))


def _workers(connection: sqlite3.Connection, now: float) -> list[WorkerInfo]:
    rows = connection.execute(
        "SELECT info, until FROM worker WHERE until > ? AND NOT swept AND info IS NOT NULL"
        " ORDER BY id",
        (now,),
    )
    return [msgspec.structs.replace(unpack_worker(info), lease_until=until) for info, until in rows]


def _events(connection: sqlite3.Connection, after: str, limit: int) -> list[Event]:
    seq, _, position = after.partition(".")
    start, skip = int(seq or 0), int(position or -1)
    found: list[Event] = []
    for number, at, blob in connection.execute(
        "SELECT seq, at, blob FROM event WHERE seq >= ? ORDER BY seq LIMIT ?", (start, limit + 1)
    ):
        for index, entry in enumerate(unpack_events(blob)):
            if number > start or index > skip:
                found.append(Event(f"{number:016d}.{index:06d}", at, *entry))
            if len(found) >= limit:
                return found
    return found


def finals(connection: sqlite3.Connection, ids: list[str], now: float) -> dict[str, Final]:
    """What these tasks ended in. Raises `TaskNotFound`."""
    found: dict[str, Final] = {}
    for task_id in ids:
        row = connection.execute(
            "SELECT state, result, error, finished, expires FROM task WHERE id = ?",
            (task_id,),
        ).fetchone()
        if row is None:
            raise TaskNotFound(task_id)
        state, result, error, finished, expires = row
        if finished is None:
            continue
        if expires is not None and expires <= now:
            result = None
        info = unpack_error(error) if error is not None else None
        found[task_id] = Final(task_id, State(state), result, info)
    return found
