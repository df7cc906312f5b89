"""How long tasks waited for their first start: from the enqueue, or from when they became due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conveyor.inspect import Event, FinishedTask, State

_MOST = 200_000


class Waits:
    """Remembers of delayed tasks when they became due. What it has forgotten has no wait."""

    def __init__(self) -> None:
        self._due: dict[str, float | None] = {}

    def note(self, events: Sequence[Event]) -> None:
        """Take events in."""
        for event in events:
            if event.execution:
                continue
            if event.state == State.SCHEDULED.value:
                self._due[event.id] = None
            elif event.id in self._due and event.state == State.QUEUED.value:
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
