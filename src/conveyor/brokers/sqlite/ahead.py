"""The open lanes of one queue in the order of the claim, read a few at a time."""

from __future__ import annotations

from typing import Any

from conveyor.brokers.sqlite.lanes import GATES
from conveyor.brokers.sqlite.transaction import Transaction

FIRST, MOST = 2, 64
"""Lanes read at once: two tell how far the first one's run may go, more where they take turns."""

Place = tuple[int, int]
"""Rank and ord: less stands first."""


class Ahead:
    """The open lanes from the first one on, for as long as nobody else opens a lane."""

    def __init__(self, tx: Transaction, queue: int) -> None:
        self._tx = tx
        self._queue = queue
        self._many = FIRST
        self.forget()

    def forget(self) -> None:
        """Read again: lanes were opened."""
        self._rows: list[Any] = []
        self._at = 0
        self._read_all = False
        self._moved: Place | None = None

    def first(self) -> Any | None:
        """Return the lane that stands first, with its head."""
        if not self._is_known():
            self._read()
        return self._rows[self._at] if self._at < len(self._rows) else None

    def rival(self) -> Place | None:
        """Return where the lane after the first one stands."""
        behind, moved = self._at + 1, self._moved
        if behind >= len(self._rows):
            return moved
        place: Place = self._rows[behind][1:3]
        return place if moved is None or place < moved else moved

    def passed(self, moved: Place | None = None) -> None:
        """The first lane is no more where it was: it stands elsewhere, or nowhere."""
        self._at += 1
        if moved is not None and (self._moved is None or moved < self._moved):
            self._moved = moved

    def _is_known(self) -> bool:
        """Whether the first lane and the one after it are among those that were read."""
        at, rows = self._at, self._rows
        if at + 1 >= len(rows) and not self._read_all:
            return False
        return self._moved is None or (at < len(rows) and rows[at][1:3] < self._moved)

    def _read(self) -> None:
        if self._at:
            # Whoever takes several lanes at a time most often takes some more.
            self._many = min(4 * self._many, MOST) if self._at + 1 >= len(self._rows) else FIRST
        self.forget()
        self._rows = self._tx.execute(GATES["next_lanes"], (self._queue, self._many)).fetchall()
        self._read_all = len(self._rows) < self._many
