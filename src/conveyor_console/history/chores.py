"""What the recorder does now and then beside recording, a small bite at a time."""

from __future__ import annotations

from conveyor import Conveyor
from conveyor_console.db.engine import Database
from conveyor_console.history.retention import CHUNK, prune, verify_letters
from conveyor_console.history.roster import Roster
from conveyor_console.kit.clock import Clock

_EVERY = 60.0


class Chores:
    """Who works, retention, and a look at the dead letters. Once a minute a round begins; within a
    round each call does one chunk, so that events never wait for long."""

    def __init__(self, queue: Conveyor, database: Database, clock: Clock, days: int) -> None:
        self._queue = queue
        self._database = database
        self._clock = clock
        self._days = days
        self._round_at = clock.monotonic() + _EVERY
        self._roster = Roster(queue, database, clock)
        self._pruning = False
        self._after: str | None = None

    async def bite(self) -> bool:
        """Do a chunk of what is due; returns whether there is more to do at once."""
        await self._roster.look()
        now = self._clock.monotonic()
        if now >= self._round_at:
            self._round_at = now + _EVERY
            self._pruning, self._after = True, ""
        if self._pruning:
            pruned = await prune(self._database, self._clock.now().timestamp(), self._days)
            self._pruning = pruned == CHUNK
        elif self._after is not None:
            inspector = await self._queue.inspector()
            self._after = await verify_letters(self._database, inspector, self._after)
        return self._pruning or self._after is not None
