"""Progress and logs of running tasks, stored at most twice a second for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conveyor.brokers.base import Note
from conveyor.core.errors import BrokerError

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.worker.executor import Run

EVERY = 0.5


class Notes:
    """Collects runs that have news; `flush` stores the newest news of each."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._fresh: set[Run] = set()

    def touch(self, run: Run) -> None:
        """Mark a run as having news. Safe from any thread."""
        self._fresh.add(run)

    def forget(self, run: Run) -> None:
        """The run ended: its record will carry the logs."""
        self._fresh.discard(run)

    async def flush(self) -> None:
        """Store the news. What the broker cannot take now is tried again next time."""
        if not self._fresh:
            return
        runs, self._fresh = self._fresh, set()
        live = [run for run in runs if not run.ended]
        try:
            await self._broker.annotate([_note(run) for run in live])
        except BrokerError:
            self._fresh.update(run for run in live if not run.ended)


def _note(run: Run) -> Note:
    context, task = run.context, run.lease.task
    lines = context.log_lines.lines() if context.log_lines is not None else ()
    return Note(task.id, task.queue, run.lease.execution, context.note, lines)
