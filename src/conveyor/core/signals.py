"""What a task may raise to say what should become of it."""

from __future__ import annotations

from datetime import timedelta

from conveyor.core.amounts import seconds


class Snooze(Exception):
    """Raise it in a task to run again after `delay` (seconds or timedelta). Costs no attempt."""

    def __init__(self, delay: float | timedelta) -> None:
        self.delay = seconds(delay, "Snooze")
        super().__init__(f"again in {self.delay:g} s")


class Reject(Exception):
    """Raise it in a task that can never succeed: it becomes a dead letter at once."""

    def __init__(self, reason: str) -> None:
        self.reason = str(reason)
        super().__init__(self.reason)
