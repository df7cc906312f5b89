"""When a worker looks for parked tasks: those that another one could not run.

While there are none, once a second. Parked tasks stand in no lane, so nobody is told when a gate
lets the next of them through: while some come, it is looked for more as soon as there is room, and
when none came for a moment, again after it, each time a little later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.core.task import Lease

SELDOM = 1.0
"""Seconds between looks while nothing is parked."""
SOON = 0.02
"""Seconds until the first look after one that found no more."""


class Adoption:
    """The looks of one worker. `names` are the tasks that it knows."""

    def __init__(self, broker: Broker, clock: Clock, token: str, names: Iterable[str]) -> None:
        self._broker = broker
        self._clock = clock
        self._token = token
        self._names = names
        self._pause = SELDOM
        self._due = float("-inf")

    async def look(self, queues: Sequence[str], most: int) -> list[Lease]:
        """Lease up to `most` parked tasks, if it is time to look. Raises `BrokerError`."""
        now = self._clock.monotonic()
        if most <= 0 or now < self._due:
            return []
        self._due = now + SELDOM
        found = await self._broker.adopt(self._token, list(self._names), queues, most)
        self._pause = SOON if found else min(SELDOM, 2 * self._pause)
        self._due = now if found else now + self._pause
        return found

    def next_look(self) -> float:
        """Return in how many seconds to look again."""
        if self._pause >= SELDOM:
            return SELDOM
        return max(SOON, self._due - self._clock.monotonic())
