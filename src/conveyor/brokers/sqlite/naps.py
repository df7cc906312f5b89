"""Naps that are hardly longer than asked for.

Linux adds 50 µs to every sleep, so as to wake up seldom: more than a whole nap of who waits for the
write lock, with a task behind it that could start.
"""

from __future__ import annotations

import sys

_SET_TIMER_SLACK = 29
_NANOSECONDS = 1_000


def sharpen() -> None:
    """Make the sleeps of the calling thread exact, where the system has a say in it."""
    if sys.platform != "linux":
        return
    import ctypes

    control = getattr(ctypes.CDLL(None), "prctl", None)
    if control is not None:
        control(_SET_TIMER_SLACK, ctypes.c_ulong(_NANOSECONDS), 0, 0, 0)
