"""A clock that stands still until a test moves it."""

from __future__ import annotations

START = 4_000_000_000.0
"""Far in the future (October 2096): nothing that a store expires by its own clock is in the past
of the test.
"""


class ManualClock:
    """A `conveyor.core.clock.Clock` whose hands only `advance` and `jump` move."""

    def __init__(self, start: float = START) -> None:
        self._wall = start
        self._monotonic = 0.0

    def time(self) -> float:
        """Seconds since the Unix epoch, as the test wants it to be."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds this clock was advanced by so far."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both hands. Raises `ValueError` when negative: see `jump`."""
        if seconds < 0:
            raise ValueError(f"time cannot pass backwards ({seconds!r} s): use jump()")
        self._wall += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or (negative) back by `seconds`, as an administrator would:
        no time has passed.
        """
        self._wall += seconds
