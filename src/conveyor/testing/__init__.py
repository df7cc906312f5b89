"""The test kit: an in-memory broker, a manual clock, `drain()` and `assert_enqueued()`."""

from conveyor.testing.clock import ManualClock

__all__ = ["ManualClock"]
