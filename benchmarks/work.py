"""The task bodies that every peer runs."""

from __future__ import annotations

import asyncio
import os
import time

from benchmarks.marks import Marks

NAP_SECONDS = 0.05

_marks = Marks.from_environment()
_started, _process = _marks.started, _marks.process
_begun, _ended = _marks.begun, _marks.ended
# A worker that forks for every single task is one worker: its children are known by their parent.
_identity = os.getppid if os.environ.get("BENCH_FORKS") else os.getpid


def noop(number: int) -> int:
    """Do nothing but leave a mark."""
    _started[number] = time.monotonic()
    _process[number] = _identity()
    _begun[number] += 1
    _ended[number] += 1
    return number


def begin(number: int) -> None:
    """Note that an execution of the task began."""
    _started[number] = time.monotonic()
    _process[number] = _identity()
    _begun[number] += 1


def end(number: int) -> int:
    """Note that an execution of the task came to its end."""
    _ended[number] += 1
    return number


def nap(number: int) -> int:
    """Take 50 ms, blocking a thread."""
    begin(number)
    time.sleep(NAP_SECONDS)
    return end(number)


async def nap_async(number: int) -> int:
    """Take 50 ms on the event loop."""
    begin(number)
    await asyncio.sleep(NAP_SECONDS)
    return end(number)
