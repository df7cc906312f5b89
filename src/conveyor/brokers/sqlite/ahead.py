"""The open lanes of one queue in the order of the claim, read a few at a time."""

from __future__ import annotations

from typing import Any

from conveyor.brokers.sqlite import lanes
from conveyor.brokers.sqlite.lanes import GATES, Behind, Rung, Stand, Turn
from conveyor.brokers.sqlite.transaction import Transaction

FIRST, MOST = 2, 64
"""Lanes read at once: two tell how far the first one's run may go, more where they take turns."""


class Ahead:
    """The open lanes from the first one on, for as long as nobody else opens a lane."""

    def __init__(self, tx: Transaction, queue: int) -> None:
        self._tx = tx
        self._queue = queue
        self._many = FIRST
        self._left: list[tuple[Any, ...]] = []
        self._ended: list[tuple[Any, ...]] = []
        self._went_on: list[tuple[Any, ...]] = []
        self.forget()

    def forget(self) -> None:
        """Read again: lanes were opened."""
        self._rows: list[Any] = []
        self._at = 0
        self._read_all = False
        self._moved: Rung | None = None

    def first(self) -> Any | None:
        """Return the lane that stands first, with its head."""
        if not self._is_known():
            self._read()
        return self._rows[self._at] if self._at < len(self._rows) else None

    def rival(self) -> Rung | None:
        """Return where the lane after the first one stands."""
        behind, moved = self._at + 1, self._moved
        if behind >= len(self._rows):
            return moved
        place: Rung = self._rows[behind][1:3]
        return place if moved is None or place < moved else moved

    def passed(self, moved: Rung | None = None) -> None:
        """The first lane is no more where it was: it stands elsewhere, or nowhere."""
        self._at += 1
        if moved is not None and (self._moved is None or moved < self._moved):
            self._moved = moved

    def advance(self, stand: Stand, behind: Behind | None, turn: Turn | None = None) -> None:
        """Take the head of the first lane out of it. What that writes waits for `flush`: it goes
        for many lanes at once.
        """
        where = (self._queue, stand.lane)
        self._left.append((*where, stand.head_rank, stand.head_ord))
        if behind is None:
            self._ended.append(where)
            self.passed()
            return
        moved = lanes.succeed(self._tx, stand, behind, turn)
        self._went_on.append((*moved, *where))
        self.passed(moved[1:3])

    def flush(self) -> None:
        """Write where lanes stand, before anybody reads it."""
        for statement, rows in (
            ("delete_laned", self._left),
            ("delete_lane", self._ended),
            ("move_lane", self._went_on),
        ):
            if rows:
                self._tx.executemany(GATES[statement], rows)
                rows.clear()

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
        self.flush()
        self.forget()
        self._rows = self._tx.execute(GATES["next_lanes"], (self._queue, self._many)).fetchall()
        self._read_all = len(self._rows) < self._many
