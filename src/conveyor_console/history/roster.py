"""Which workers there were: an execution names one by its token, long after it has gone."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from conveyor import Conveyor
from conveyor.inspect import WorkerInfo
from conveyor_console.db.bulk import Upsert
from conveyor_console.db.engine import Database
from conveyor_console.history.models import Worker
from conveyor_console.history.rows import visible
from conveyor_console.kit.clock import Clock

_EVERY, _AT_LEAST = 5.0, 60.0
"""Seconds between looks, and between two times that those who stay are written."""
_rows = Upsert(Worker.__table__, replace=True)
_json = msgspec.json.Encoder().encode


class Roster:
    """Writes down who lives: at once who comes and goes, now and then who stays."""

    def __init__(self, queue: Conveyor, database: Database, clock: Clock) -> None:
        self._queue = queue
        self._database = database
        self._clock = clock
        self._look_at = self._write_at = float("-inf")
        self._here: dict[str, WorkerInfo] = {}
        self._seen_at = 0.0

    async def look(self) -> None:
        """Look when it is time. Raises what broker and database raise."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _EVERY
        found = {one.id: one for one in await (await self._queue.inspector()).workers()}
        gone = [one for key, one in self._here.items() if key not in found]
        if not gone and found.keys() == self._here.keys() and now < self._write_at:
            return
        seen_at = self._clock.now().timestamp()
        async with self._database.writing() as session:
            await _rows.run(session, rows_of(found.values(), seen_at))
            await _rows.run(session, rows_of(gone, self._seen_at))
        self._write_at = now + _AT_LEAST
        self._here, self._seen_at = found, seen_at


def rows_of(workers: Iterable[WorkerInfo], seen_at: float) -> list[tuple[object, ...]]:
    """Return rows of `console_worker`, in the order of its columns."""
    return [
        (
            one.id,
            visible(one.host),
            one.pid,
            _json(one.queues).decode(),
            one.concurrency,
            visible(one.code_version),
            one.started_at,
            seen_at,
        )
        for one in workers
    ]
