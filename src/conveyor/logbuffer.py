"""Captured log lines of one execution."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

HEAD_LINES = TAIL_LINES = 100
LINE_LENGTH = 1_000


class LogBuffer:
    """Lines of one execution: the first hundred and the last hundred."""

    __slots__ = ("_dropped", "_head", "_tail")

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._dropped = 0
        for line in lines:
            self.add(line)

    def add(self, line: str) -> None:
        """Keep a line, cut to a thousand characters."""
        line = line[:LINE_LENGTH]
        if len(self._head) < HEAD_LINES:
            self._head.append(line)
            return
        if len(self._tail) == TAIL_LINES:
            self._dropped += 1
        self._tail.append(line)

    def lines(self) -> tuple[str, ...]:
        """Return what was kept, with a line that says how much was not."""
        gap = (f"… {self._dropped} lines left out …",) if self._dropped else ()
        return (*self._head, *gap, *self._tail)
