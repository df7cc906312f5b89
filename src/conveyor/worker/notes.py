"""Progress and logs of running tasks, stored at most twice a second for each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from conveyor.brokers.base import Note
from conveyor.core.errors import BrokerError

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.context import CurrentTask

EVERY = 0.5


class Notes:
    """Collects tasks that have news; `flush` stores the newest news of each."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._fresh: set[CurrentTask] = set()

    def touch(self, task: CurrentTask) -> None:
        """Mark a task as having news. Safe from any thread."""
        self._fresh.add(task)

    def forget(self, task: CurrentTask) -> None:
        """The execution ended: its record will carry the logs."""
        self._fresh.discard(task)

    async def keep(self) -> None:
        """Flush twice a second until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Store the news. What the broker cannot take now is tried again next time."""
        if not self._fresh:
            return
        fresh, self._fresh = self._fresh, set()
        live = [task for task in fresh if not task.over]
        if not live:
            return
        try:
            await self._broker.annotate([_note(task) for task in live])
        except BrokerError:
            self._fresh.update(task for task in live if not task.over)


def _note(task: CurrentTask) -> Note:
    lines = task.log_lines.lines() if task.log_lines is not None else ()
    return Note(task.id, task.queue, task.fencing_token, task.note, lines)
