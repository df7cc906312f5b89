"""How long tasks waited for their first start: from the enqueue, or from when they became due."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import Event, FinishedTask, State
from conveyor_console.db.bulk import Upsert, matching
from conveyor_console.history.models import DueTask

_MOST = 200_000
_LATE = 1.0
"""Seconds from the id to the queue after which a task is taken for a delayed one. An id that is
merely older, by a slow transaction or another clock, is remembered for nothing and not wrong."""


_rows = Upsert(DueTask.__table__, replace=True)
_ENDED = "DELETE FROM console_due WHERE task_id {ids}"


class Waits:
    """Remembers of delayed tasks when they became due, also of those that were scheduled before
    this began. What has not ended by the end of a batch is written with it, for the next one."""

    def __init__(self) -> None:
        self._due: dict[str, float | None] = {}
        self._written: set[str] = set()
        self._news: dict[str, float] = {}

    async def load(self, session: AsyncSession) -> None:
        """Begin with what was written."""
        rows = await session.execute(select(DueTask.task_id, DueTask.at).limit(_MOST))
        self._due = {one.task_id: one.at for one in rows}
        self._written, self._news = set(self._due), {}

    async def write(self, session: AsyncSession, ended: Collection[str]) -> None:
        """Write down what goes on after this batch, and let go of those that ended in it."""
        await _rows.run(session, [one for one in self._news.items() if one[0] not in ended])
        await matching(session, _ENDED, [one for one in ended if one in self._written])

    async def begin_anew(self, session: AsyncSession) -> None:
        """The store is another one."""
        await session.execute(delete(DueTask))

    def note(self, events: Sequence[Event]) -> None:
        """Take events in."""
        for event in events:
            if event.execution:
                continue
            if event.state == State.SCHEDULED.value:
                self._due[event.id] = None
            elif event.state == State.QUEUED.value and (event.id in self._due or _is_late(event)):
                self._due[event.id] = self._news[event.id] = event.at
        while len(self._due) > _MOST:
            del self._due[next(iter(self._due))]

    def of(self, task: FinishedTask) -> float | None:
        """Return the seconds that the task waited, None when that is not known."""
        info = task.info
        if not info.executions:
            return None
        since = self._due.get(info.id, info.enqueued_at)
        return None if since is None else max(0.0, info.executions[0].started_at - since)

    def forget(self, ended: Collection[str]) -> None:
        """The batch is written, and these have ended."""
        self._written.update(self._news)
        self._news.clear()
        self._written.difference_update(ended)
        for task_id in ended:
            self._due.pop(task_id, None)


def _is_late(event: Event) -> bool:
    """Whether a task came to the queue long after its id (UUIDv7) was made."""
    try:
        made = (UUID(event.id).int >> 80) / 1000
    except ValueError:
        return True
    return event.at - made > _LATE
