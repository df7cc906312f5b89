"""A lane of its own for each place that things are sent to: one that does not answer keeps nothing
waiting but what is for itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from conveyor_console.kit.clock import Clock

log = logging.getLogger("conveyor.console")
AT_ONCE = 10
"""Sendings to one place at a time; one, while it does not answer."""
FIRST_REST, LONGEST_REST = 5.0, 60.0
"""Seconds that a place is left alone after it did not answer; doubled each time."""
_PATIENCE = 6.0
"""Seconds that closing waits for sendings under way: a little more than one may take."""
_MOST = 10_000


class Tried(NamedTuple):
    """What one batch came to."""

    number: int
    """Of sendings."""
    answered: bool | None
    """Whether the place answered at all, be it with an error; None: it was not reached out to."""


def answered_of(answers: Iterable[bool | None]) -> bool | None:
    """Return whether a place answered at all, from what its sendings know."""
    known = [one for one in answers if one is not None]
    return any(known) if known else None


Send = Callable[[str, int], Awaitable[Tried]]
"""Sends up to so many of what is due at a place, and writes down how it went."""


class _Rest(NamedTuple):
    times: int
    until: float


class Lanes:
    """Runs `send` for places beside each other, for each place batch after batch while there is
    something due and `goes_on()` holds. A batch that fails is logged; it ends its own lane."""

    def __init__(self, name: str, clock: Clock, send: Send, goes_on: Callable[[], bool]) -> None:
        self._name = name
        self._clock = clock
        self._send = send
        self._goes_on = goes_on
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._rests: dict[str, _Rest] = {}
        self._closing = False

    def start(self, places: Iterable[str]) -> None:
        """Send to these places, but for those that are being sent to or rest; wait for none."""
        if self._closing:
            return
        now = self._clock.monotonic()
        for place in places:
            rest = self._rests.get(place)
            if place not in self._busy and (rest is None or rest.until <= now):
                task = asyncio.create_task(self._run(place), name=f"conveyor-console-{self._name}")
                self._busy[place] = task

    async def settled(self) -> None:
        """Wait until nothing is being sent."""
        while self._busy:
            await asyncio.wait(list(self._busy.values()))

    async def close(self) -> None:
        """End; what is being sent may end first."""
        self._closing = True
        if not self._busy:
            return
        _, unfinished = await asyncio.wait(list(self._busy.values()), timeout=_PATIENCE)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=1)

    async def _run(self, place: str) -> None:
        try:
            while self._goes_on() and not self._closing:
                most = 1 if place in self._rests else AT_ONCE
                tried = await self._send(place, most)
                self._learn(place, answered=tried.answered)
                if not tried.number or tried.answered is False:
                    return
        except Exception as exc:
            log.warning("%s: %s cannot be sent to now: %s", self._name, place, exc, exc_info=exc)
            self._learn(place, answered=False)
        finally:
            del self._busy[place]

    def _learn(self, place: str, *, answered: bool | None) -> None:
        if answered:
            self._rests.pop(place, None)
        elif answered is False:
            times = self._rests[place].times + 1 if place in self._rests else 1
            seconds = min(LONGEST_REST, FIRST_REST * 2 ** min(times - 1, 10))
            if len(self._rests) > _MOST:
                self._rests.clear()
            self._rests[place] = _Rest(times, self._clock.monotonic() + seconds)
