"""Reading changes of state in the order of their numbers, without passing a writer that is late.

A writer takes its place when it writes and shows it when it commits, so a reader meets gaps. What
is missing was rolled back, or will still come; the reader must not go on before it knows. It takes
a transaction number of its own: whoever holds a missing place took it before and has a lower one.
When all of those have ended, a place that is still empty stays empty.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from conveyor.brokers.base import Event
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.statements import statements
from conveyor.brokers.sql import STATES

_SQL = statements("events")
Run = Callable[[Callable[[Connection], Awaitable[Any]]], Awaitable[Any]]


class EventReader:
    """Reads events for one broker. Remembers of a gap when it may be passed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._gap = 0
        self._seen = 0
        """The last place that was seen when the gap was met."""
        self._bound = 0
        """All transactions below this number must have ended before the gap may be passed."""

    async def read(self, after: str, limit: int) -> list[Event]:
        """Return up to `limit` events after a cursor, oldest first."""
        place, _, position = after.partition(".")
        start, skip = int(place or 0), int(position or -1)
        rows = await self._rows(start, limit)
        gap = first_gap(start, [row["seq"] for row in rows])
        if gap is not None and not await self._may_pass(gap, rows[-1]["seq"]):
            rows = [row for row in rows if row["seq"] < gap]
        elif gap is not None:
            # Who had a place up to the last one seen then has ended: now it is all to be seen.
            rows = [row for row in await self._rows(start, limit) if row["seq"] <= self._seen]
            self._gap = 0
        return _events(rows, start, skip)[:limit]

    async def newest(self) -> str:
        """Return the cursor of the newest event that can be seen, "" before the first."""
        row = await self._run(lambda c: c.fetchrow(_SQL["newest"]))
        return "" if row is None else f"{row['seq']:016d}.{row['last']:06d}"

    async def missed(self, after: str) -> bool:
        """Whether events after a cursor may be gone. A place that was rolled back looks as if."""
        place = int(after.partition(".")[0] or 0)
        oldest, newest = await self._run(lambda c: c.fetchrow(_SQL["span"]))
        if oldest is None:
            return False
        return bool(oldest > place + 1 or newest < place)

    async def _rows(self, start: int, limit: int) -> list[Any]:
        found: list[Any] = await self._run(lambda c: c.fetch(_SQL["events"], start, limit + 1))
        return found

    async def _may_pass(self, gap: int, last: int) -> bool:
        if gap != self._gap:
            self._gap, self._seen = gap, last
            self._bound = int(await self._run(lambda c: c.fetchval(_SQL["number"])))
        oldest = int(await self._run(lambda c: c.fetchval(_SQL["oldest"])))
        return oldest >= self._bound


def first_gap(start: int, places: list[int]) -> int | None:
    """Return the first missing place after `start`, None when there is none before the last."""
    expected = start
    for place in places:
        if place > expected + 1:
            return expected + 1
        expected = place
    return None


def _events(rows: list[Any], start: int, skip: int) -> list[Event]:
    return [
        Event(
            f"{row['seq']:016d}.{index:06d}",
            row["at"],
            str(task_id),
            row["queue"],
            STATES[row["state"]].value,
            row["execution"],
        )
        for row in rows
        for index, task_id in enumerate(row["ids"])
        if row["seq"] > start or index > skip
    ]
