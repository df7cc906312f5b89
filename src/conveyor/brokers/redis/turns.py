"""Who may talk to a server now: so many at a time, the others stand in line."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """`most` at a time; the others in the order in which they came. Time in line is nobody's fault
    but our own, so it has no end by itself: `send_home` ends it."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._line: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a turn; give it back with `give`. Raises what `send_home` says."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            # Given in the very moment in which its owner left.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give()
            raise

    def give(self) -> None:
        """Give a turn to who is next, or back."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def send_home(self, error: Callable[[], Exception]) -> None:
        """Let all that stand in line raise an error of their own."""
        line, self._line = self._line, deque()
        for turn in line:
            if not turn.done():
                turn.set_exception(error())
