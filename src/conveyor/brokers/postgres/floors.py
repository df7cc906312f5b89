"""Floors: where a claim begins to look, so that it need not walk over what was taken before.

Taken rows stay in the index of `ready` until no snapshot can see them: for an hour under a backup
of an hour. Below the *head* of a level, the first row that can be seen there, only such rows may
still turn up whose transaction was under way. Transactions take their number first and look at the
clock then, so once all below some number have ended, what was stored before that number is in
sight: no row will turn up below that time, the *watermark*. The lower of both is certain for good.

A transaction that writes for long, of whatever program, holds the watermark back. Then claims begin
at the heads they saw, and twice a second one begins at what is certain: nothing waits longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from conveyor.core.task import SECONDS_PER_LEVEL

LEVELS = 10
_LATE_SECONDS = 0.1
"""How late a commit may be to be seen at once even while the watermark is held back."""
_SLACK_SECONDS = 0.02
"""A clock that is put right by small steps hides nothing."""
_LOOK_SECONDS = 0.5
_STAMP_SECONDS = 5.0
_LIFE_SECONDS = 600.0
"""What came into the table by another way than ours is found in the end."""
_BOTTOM = float("-inf")


class Floors:
    """The floors of one session. One step at a time asks for them and tells what it saw."""

    def __init__(self, session: object, monotonic: Callable[[], float] = monotonic) -> None:
        self.session = session
        self._now = monotonic
        self._forget()

    def _forget(self) -> None:
        self._born = self._looked = self._marked = self._now()
        self._clock = self._watermark = _BOTTOM
        self._mark: tuple[int, float] | None = None
        self._certain: dict[str, list[float]] = {}
        self._seen: dict[str, list[float]] = {}
        self._looks, self._held_back = True, False

    def starts(self, queues: Sequence[str]) -> list[float]:
        """Return the virtual times to begin at, ten levels for each queue."""
        now = self._now()
        if now - self._born > _LIFE_SECONDS:
            self._forget()
        self._looks = not self._held_back or now - self._looked > _LOOK_SECONDS
        if self._looks:
            self._looked = now
        floors = self._certain if self._looks else self._seen
        return [start for queue in queues for start in floors.get(queue, [_BOTTOM] * LEVELS)]

    @property
    def sure(self) -> float:
        """What became available before this time is in sight."""
        return self._watermark - _SLACK_SECONDS

    def look(self) -> None:
        """Begin the next claim at what is certain: something came into sight late."""
        self._looked = _BOTTOM

    @property
    def wants_number(self) -> bool:
        """Whether the step should take a number even if it writes nothing: the watermark of a
        worker that finds nothing for long would stay where it is.
        """
        return self._mark is None and self._now() - self._marked > _STAMP_SECONDS

    def learn(self, queues: Sequence[str], reply: Mapping[str, Any]) -> None:
        """Take in what the step saw."""
        clock, number, heads = reply["clock"], reply["number"], reply["heads"] or ()
        if clock < self._clock - _SLACK_SECONDS:
            self._forget()
            self._clock = clock
            return
        self._clock = clock
        if self._mark is not None and reply["oldest"] >= self._mark[0]:
            self._watermark, self._mark = self._mark[1], None
        self._held_back = self._mark is not None and self._now() - self._marked > _LATE_SECONDS
        for place, queue in enumerate(queues):
            levels = heads[LEVELS * place : LEVELS * (place + 1)]
            if levels and levels[0] is not None:
                self._seen[queue] = _below(levels, clock - _LATE_SECONDS)
                if self._looks:
                    self._certain[queue] = _below(levels, self._watermark - _SLACK_SECONDS)
        if self._mark is None and number is not None:
            self._mark, self._marked = (number, clock), self._now()


def _below(heads: Sequence[float], time: float) -> list[float]:
    """Return floors that are above neither the heads nor a time."""
    return [min(head, time - SECONDS_PER_LEVEL * level) for level, head in enumerate(heads)]
