"""All time-outs of a worker on one timer: a heap of deadlines, cancelled lazily."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Deadline:
    """One armed deadline."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], Any]) -> None:
        self.at = at
        self.action: Callable[[], Any] | None = action

    def cancel(self) -> None:
        """Disarm."""
        self.action = None

    def __lt__(self, other: Deadline) -> bool:
        return self.at < other.at


class Deadlines:
    """Calls actions when their time comes, on the running loop's clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[Deadline] = []
        self._timer: asyncio.TimerHandle | None = None

    def after(self, seconds: float, action: Callable[[], Any]) -> Deadline:
        """Arm: call `action` in `seconds` unless cancelled before."""
        deadline = Deadline(self._loop.time() + seconds, action)
        heappush(self._heap, deadline)
        if self._heap[0] is deadline:
            self._arm()
        return deadline

    def close(self) -> None:
        """Disarm everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._heap.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0].at, self._fire) if self._heap else None

    def _fire(self) -> None:
        now = self._loop.time()
        while self._heap and (self._heap[0].action is None or self._heap[0].at <= now):
            action = heappop(self._heap).action
            if action is not None:
                action()
        self._timer = None
        if self._heap:
            self._arm()
