"""How many tasks to lease ahead: bounded by time, not by a constant. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conveyor.worker.waiting import Waiting

MOST_PER_STEP = 1_000
AHEAD_SECONDS = 0.25
"""Leased-and-waiting work is worth at most this long, far below the contract's second."""
GATED_AHEAD = 0.02
"""The same for gated tasks, whose limits count from the lease: short beside the slack that bursts
keep for it (`conveyor.core.gates.SLACK`)."""
GATED_TURNS = 4
"""Gated tasks leased ahead for each slot, at most, however short: whoever's turn it is comes after
them. With fewer, worker and store wait for each other."""
SLOW = 0.1
"""Seconds. Tasks that take this long on average are leased for free slots only."""
_WEIGHT = 0.05


class Prefetch:
    """Keeps a moving average of how long a task takes, and says how many to lease."""

    __slots__ = ("_average", "_slots")

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._average: float | None = None

    def ended(self, seconds: float) -> None:
        """Learn from one execution. A slow one counts at once, fast ones gain trust slowly."""
        average = self._average
        if average is None or seconds > average * 20:
            self._average = seconds
        else:
            self._average = average + _WEIGHT * (seconds - average)

    def want(self, running: int, waiting: int) -> int:
        """How many more to lease with so many running and so many leased but not started."""
        room = self._slots - running - waiting
        average = self._average
        if average is not None and average < SLOW:
            room += min(2 * MOST_PER_STEP, int(self._slots * AHEAD_SECONDS / max(average, 1e-6)))
        return max(0, min(room, MOST_PER_STEP))

    def want_gated(self, running: int, waiting: Waiting) -> int:
        """How many gated tasks to lease beside those that wait.

        While plain tasks are leased ahead no slot is ever free, but they are short: then one gated
        task at a time goes before them.
        """
        gated = waiting.gated
        room = self._slots - running - gated
        average = self._average
        if average is not None and average < SLOW:
            turns = min(GATED_TURNS, GATED_AHEAD / max(average, 1e-6))
            room += min(MOST_PER_STEP, int(self._slots * turns))
        return max(room, 0 if gated or not waiting.plain else 1)

    def is_half_through(self, running: int, waiting: Waiting) -> bool:
        """Whether as many gated tasks may be leased as are still here."""
        return self.want_gated(running, waiting) >= running + waiting.gated
