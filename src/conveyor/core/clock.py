"""The clock as it is given to everything that needs the time: a seam, not a source."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Where the time comes from: `conveyor.system.SystemClock`, or a test's own."""

    def time(self) -> float:
        """Seconds since the Unix epoch (UTC); may jump."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
