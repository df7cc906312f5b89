"""How long to wait before trying an unreachable broker again."""

from __future__ import annotations

from collections.abc import Callable

FIRST, LONGEST = 0.1, 2.5
"""Half of what a worker may take to resume: a call may begin just before the broker is back."""


class Pauses:
    """Seconds that double from 0.1 to 2.5, each spread by half, so that a crowd does not return as
    one. `dice` is uniform in [0, 1).
    """

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._ceiling = FIRST

    def next(self) -> float:
        """Return the next pause."""
        pause = self._ceiling * (0.5 + self._dice() / 2)
        self._ceiling = min(self._ceiling * 2, LONGEST)
        return pause

    def reset(self) -> None:
        """It worked: begin anew."""
        self._ceiling = FIRST
