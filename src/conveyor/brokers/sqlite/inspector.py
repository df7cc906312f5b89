"""Questions to the store: on a connection of their own, so that nobody waits for anybody."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from conveyor.brokers.base import Event, Filter, FinishedTask, QueueInfo, Violation, WorkerInfo
from conveyor.brokers.sqlite import finished, invariants, views
from conveyor.core.task import State, TaskInfo

T = TypeVar("T")


class Read(Protocol):
    """Runs a query in one snapshot of the database."""

    def __call__(self, query: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]:
        """Return what `query` returns."""


class SQLiteInspector:
    """The read-only view of one database."""

    def __init__(self, read: Read, now: Callable[[], int]) -> None:
        self._read = read
        self._now = now

    async def get(self, task_id: str) -> TaskInfo:
        """Everything known of one task. Raises `TaskNotFound`."""
        return await self._read(lambda connection: views.get(connection, task_id))

    async def tasks(self, where: Filter) -> list[TaskInfo]:
        """Tasks matching `where`, without their executions, newest first."""
        return await self._read(lambda connection: views.tasks(connection, where))

    async def counts(self) -> dict[State, int]:
        """Tasks by state."""
        return await self._read(views.counts)

    async def queue_names(self) -> list[str]:
        """Names of all queues, sorted."""
        return await self._read(views.queue_names)

    async def queues(self) -> list[QueueInfo]:
        """Every queue, by name."""
        now = self._now()
        return await self._read(lambda connection: views.queues(connection, now))

    async def workers(self) -> list[WorkerInfo]:
        """Workers with a live lease."""
        now = self._now()
        return await self._read(lambda connection: views.workers(connection, now))

    async def finished(
        self, ids: Sequence[str], homes: Mapping[str, str] | None = None
    ) -> list[FinishedTask]:
        """Those of these tasks that are final now."""
        now = self._now()
        found: list[FinishedTask] = []
        for start in range(0, len(ids), finished.PER_QUERY):
            chunk = ids[start : start + finished.PER_QUERY]
            found += await self._read(partial(finished.finished, ids=chunk, now=now))
        return found

    async def events(self, after: str = "", limit: int = 1_000) -> list[Event]:
        """Changes of state after a cursor, oldest first. Raises `InvalidOption`."""
        return await self._read(lambda connection: views.events(connection, after, limit))

    async def newest(self) -> str:
        """The cursor of the newest event."""
        return await self._read(views.newest)

    async def missed(self, after: str) -> bool:
        """Whether events after this cursor may be gone. Raises `InvalidOption`."""
        return await self._read(lambda connection: views.missed(connection, after))

    async def check(self) -> list[Violation]:
        """Verify the invariants."""
        now = self._now()
        return await self._read(lambda connection: invariants.check(connection, now))
