"""The test kit: an in-memory broker, a manual clock, `drain()` and `assert_enqueued()`."""

from conveyor.testing.clock import ManualClock
from conveyor.testing.kit import Harness, assert_enqueued, drain, harness

__all__ = ["Harness", "ManualClock", "assert_enqueued", "drain", "harness"]
