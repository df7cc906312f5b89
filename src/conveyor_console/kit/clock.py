"""The console's time: given to everything, so that tests hold it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""


class SystemClock:
    """The machine's."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def now() -> datetime:
        """See `Clock`."""
        return datetime.now(UTC)
