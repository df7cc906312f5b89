"""The read-only view: every question is asked of one snapshot."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from conveyor.brokers.base import Event, Filter, FinishedTask, QueueInfo, Violation, WorkerInfo
from conveyor.brokers.postgres import invariants
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.events import EventReader
from conveyor.brokers.postgres.rows import (
    known_form,
    unpack_execution,
    unpack_pause,
    unpack_tail,
    unpack_task,
    unpack_worker,
)
from conveyor.brokers.postgres.statements import script, statements
from conveyor.brokers.postgres.views import info_of
from conveyor.brokers.sql import NUMBERS, STATES
from conveyor.core.errors import TaskNotFound
from conveyor.core.task import Final, State, TaskInfo

Query = Callable[[Connection, float | None], Awaitable[Any]]
Read = Callable[[Query], Awaitable[Any]]
"""Runs a query in a snapshot, with the given clock."""
_SQL = statements("inspector")
_TASKS = script("tasks")
_FINISHED = _SQL["finished"].replace("{tasks}", f"{_TASKS} WHERE t.id = ANY ($1)")
_PER_QUERY = 1_000


class PostgresInspector:
    """Answers questions about the queue from the rows themselves."""

    def __init__(self, read: Read, events: EventReader) -> None:
        self._read = read
        self._events = events

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
        rows = await self._read(lambda c, _: c.fetch(_SQL["counts"]))
        return dict.fromkeys(State, 0) | {STATES[number]: count for number, count in rows}

    async def queue_names(self) -> list[str]:
        """Names of all queues."""
        rows = await self._read(lambda c, _: c.fetch(_SQL["queue_names"]))
        return [row[0] for row in rows]

    async def queues(self) -> list[QueueInfo]:
        """Every queue as it stands."""
        found: list[QueueInfo] = await self._read(_queues)
        return found

    async def workers(self) -> list[WorkerInfo]:
        """Workers with a live lease."""
        rows = await self._read(lambda c, now: c.fetch(_SQL["workers"], now))
        return [
            msgspec.structs.replace(unpack_worker(info), lease_until=until) for info, until in rows
        ]

    async def finished(
        self, ids: Sequence[str], homes: Mapping[str, str] | None = None
    ) -> list[FinishedTask]:
        """Those of these tasks that are final now."""
        known, found = known_form(ids), list[FinishedTask]()
        for start in range(0, len(known), _PER_QUERY):
            found += await self._read(partial(_finished, ids=known[start : start + _PER_QUERY]))
        return found

    async def events(self, after: str = "", limit: int = 1_000) -> list[Event]:
        """Changes of state after a cursor."""
        return await self._events.read(after, limit)

    async def newest(self) -> str:
        """The cursor of the newest event."""
        return await self._events.newest()

    async def missed(self, after: str) -> bool:
        """Whether events after this cursor may be gone."""
        return await self._events.missed(after)

    async def check(self) -> list[Violation]:
        """Verify the invariants."""
        found: list[Violation] = await self._read(invariants.check)
        return found


async def _one(connection: Connection, task_id: str) -> TaskInfo | None:
    if not known_form([task_id]):
        return None
    row = await connection.fetchrow(f"{_TASKS} WHERE t.id = $1", task_id)
    if row is None:
        return None
    blobs = [record[0] for record in await connection.fetch(_SQL["executions"], task_id)]
    if row["last"] is not None:
        blobs.append(row["last"])
    return info_of(row, tuple(unpack_execution(blob) for blob in blobs))


async def _finished(
    connection: Connection, now: float | None, *, ids: list[str]
) -> list[FinishedTask]:
    rows = await connection.fetch(_FINISHED, ids, now)
    return [_finished_of(row) for row in rows]


def _finished_of(row: Any) -> FinishedTask:
    blobs = [*(row["earlier"] or ()), *([] if row["last"] is None else [row["last"]])]
    info = info_of(row, tuple(unpack_execution(blob) for blob in blobs))
    result = row["result"]
    if (
        result is not None
        and row["finished_at"] + unpack_task(row["body"]).result_ttl <= row["now"]
    ):
        result = None
    return FinishedTask(info, result)


async def _list(connection: Connection, where: Filter) -> list[TaskInfo]:
    clauses: list[str] = ["true"]
    values: list[Any] = []
    cursors = [cursor for cursor in (where.before, where.after) if cursor is not None]
    if len(known_form(cursors)) < len(set(cursors)):
        return []
    for clause, value in (
        ("t.queue = {}", where.queue),
        ("t.name = {}", where.name),
        ("t.id < {}", where.before),
        ("t.id > {}", where.after),
        ("{} @> ARRAY[s.state]", [NUMBERS[state] for state in where.states] or None),
    ):
        if value is not None:
            values.append(value)
            kind = "::integer[]" if isinstance(value, list) else ""
            clauses.append(clause.format(f"${len(values)}{kind}"))
    values.append(where.limit)
    order = "ASC" if where.oldest_first else "DESC"
    limited = f"ORDER BY t.id {order} LIMIT ${len(values)}"
    statement = f"{_TASKS} WHERE {' AND '.join(clauses)} {limited}"
    return [info_of(row) for row in await connection.fetch(statement, *values)]


async def _queues(connection: Connection, now: float | None) -> list[QueueInfo]:
    depths: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for queue, priority, count in await connection.fetch(_SQL["depths"]):
        depths[queue][priority] += count
    return [_queue(row, depths[row[0]]) for row in await connection.fetch(_SQL["queues"], now)]


def _queue(row: Any, depth: Counter[int]) -> QueueInfo:
    name, pause, scheduled, running, parked, now, since = row
    return QueueInfo(
        name=name,
        queued=depth.total(),
        scheduled=scheduled or 0,
        running=running or 0,
        parked=parked or 0,
        oldest_wait=None if since is None else max(0.0, now - since),
        waits_since=since,
        pause=unpack_pause(pause) if pause is not None else None,
        by_priority=dict(sorted(depth.items())),
    )


async def finals(connection: Connection, ids: Sequence[str], now: float | None) -> dict[str, Final]:
    """What these tasks ended in. Raises `TaskNotFound`."""
    rows = {
        str(row[0]): row for row in await connection.fetch(_SQL["finals"], known_form(ids), now)
    }
    found: dict[str, Final] = {}
    for task_id in ids:
        if task_id not in rows:
            raise TaskNotFound(task_id)
        _, number, result, tail, _, at, body, clock = rows[task_id]
        if number is None:
            continue
        if result is not None and at + unpack_task(body).result_ttl <= clock:
            result = None
        error = unpack_tail(tail).error if tail is not None else None
        found[task_id] = Final(task_id, STATES[number], result, error)
    return found
