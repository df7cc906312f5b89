"""How long tasks waited for their first start: from the enqueue, or from when they became due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from conveyor.inspect import Event, FinishedTask, State

_MOST = 200_000
_LATE = 1.0
"""Seconds from the id to the queue after which a task is taken for a delayed one. An id that is
merely older, by a slow transaction or another clock, is remembered for nothing and not wrong."""


class Waits:
    """Remembers of delayed tasks when they became due, also of those that were scheduled before
    this began. One that was due by then is taken for one that was never delayed."""

    def __init__(self) -> None:
        self._due: dict[str, float | None] = {}

    def note(self, events: Sequence[Event]) -> None:
        """Take events in."""
        for event in events:
            if event.execution:
                continue
            if event.state == State.SCHEDULED.value:
                self._due[event.id] = None
            elif event.state == State.QUEUED.value and (event.id in self._due or _is_late(event)):
                self._due[event.id] = event.at
        while len(self._due) > _MOST:
            del self._due[next(iter(self._due))]

    def of(self, task: FinishedTask) -> float | None:
        """Return the seconds that the task waited, None when that is not known."""
        info = task.info
        if not info.executions:
            return None
        since = self._due.get(info.id, info.enqueued_at)
        return None if since is None else max(0.0, info.executions[0].started_at - since)

    def forget(self, ids: Iterable[str]) -> None:
        """These have ended."""
        for task_id in ids:
            self._due.pop(task_id, None)


def _is_late(event: Event) -> bool:
    """Whether a task came to the queue long after its id (UUIDv7) was made."""
    try:
        made = (UUID(event.id).int >> 80) / 1000
    except ValueError:
        return True
    return event.at - made > _LATE
