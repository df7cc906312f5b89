"""Reads the queue's events for everything in this process that wants to know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conveyor import Conveyor
from conveyor.errors import InvalidOption
from conveyor.inspect import Event

MOST_AT_ONCE = 5_000
"""Events a read; there may be several reads in a round."""
_READS = 4
_CHECK_EVERY = 20
"""Empty rounds after which the feed asks whether the store began anew."""


class Feed:
    """Reads what is new since the last read, from the newest event on. `readers` are called with
    each batch, `losers` when something was skipped: too much came at once, or the store began
    anew."""

    def __init__(self, queue: Conveyor) -> None:
        self._queue = queue
        self._empty = 0
        self.cursor: str | None = None
        """None until the first read."""
        self.readers: list[Callable[[Sequence[Event]], None]] = []
        self.losers: list[Callable[[], None]] = []

    async def read(self) -> list[Event]:
        """Read what is new, tell the readers, and return it. Raises what the broker raises."""
        inspector = await self._queue.inspector()
        if self.cursor is None:
            self.cursor = await inspector.newest()
            return []
        found: list[Event] = []
        for _ in range(_READS):
            batch = await inspector.events(self.cursor, MOST_AT_ONCE)
            found += batch
            if batch:
                self.cursor = batch[-1].cursor
            if len(batch) < MOST_AT_ONCE:
                break
        else:
            await self._skip()
        if found:
            self._empty = 0
            for reader in self.readers:
                reader(found)
        else:
            await self._look_for_a_new_store()
        return found

    async def replay(self, after: str) -> list[Event] | None:
        """Return what came after a cursor until now; None when that is too much or gone."""
        inspector = await self._queue.inspector()
        try:
            found = await inspector.events(after, MOST_AT_ONCE)
            if len(found) >= MOST_AT_ONCE or await inspector.missed(after):
                return None
        except (InvalidOption, ValueError, OverflowError):
            # A cursor of another store.
            return None
        until = self.cursor or ""
        return [event for event in found if event.cursor <= until]

    async def _look_for_a_new_store(self) -> None:
        self._empty += 1
        if self._empty % _CHECK_EVERY:
            return
        inspector = await self._queue.inspector()
        if self.cursor and await inspector.missed(self.cursor):
            await self._skip()

    async def _skip(self) -> None:
        self.cursor = await (await self._queue.inspector()).newest()
        for loser in self.losers:
            loser()
