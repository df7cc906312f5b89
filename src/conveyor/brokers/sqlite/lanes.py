"""Where gated tasks wait: in lanes, of which each stands in the order of the claim as one.

A lane is *open* when it may look whether its head is admitted, and *stalled* when a gate refused it
(see `conveyor.brokers.sqlite.stalls`). Whenever another task becomes its head, it opens.
"""

from __future__ import annotations

from typing import NamedTuple

from conveyor.brokers.sqlite.statements import statements
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.task import Terms

GATES = statements("gates")


class Place(NamedTuple):
    """Where a task waits in its queue; rank and ord are those of its row."""

    queue: int
    lane: bytes
    rank: int
    ord: int


def mark_of(terms: Terms | None) -> bytes | None:
    """Return what the row of a task says of its terms: its lane, nothing when it waits in the plain
    line and yet holds something, None when it is plain.
    """
    if terms is None:
        return None
    if terms.lane:
        return bytes.fromhex(terms.lane)
    return b"" if terms.unique is not None else None


def join(tx: Transaction, place: Place, seq: int, priority: int) -> None:
    """Let a new task wait at the end of its lane."""
    _insert(tx, place, seq, priority, front=1)


def rejoin(tx: Transaction, place: Place, seq: int, priority: int) -> None:
    """Let a task wait that was due, or leased before. One that kept its slot goes first."""
    # Whatever slot it still has is that of a line.
    kept = tx.execute(GATES["slots_of"], (seq,)).fetchone() is not None
    if not _insert(tx, place, seq, priority, front=int(not kept)):
        _look_at_head(tx, place.queue, place.lane)


def _insert(tx: Transaction, place: Place, seq: int, priority: int, front: int) -> bool:
    """Put a task in its lane; says whether it is alone there."""
    queue, lane, rank, order = place
    tx.execute(GATES["insert_laned"], (queue, lane, front, rank, order, seq, priority))
    return tx.execute(GATES["insert_lane"], (queue, lane, seq, rank, order)).rowcount == 1


def leave(tx: Transaction, place: Place) -> None:
    """Take a waiting task out of its lane."""
    queue, lane, rank, order = place
    tx.execute(GATES["delete_laned"], (queue, lane, rank, order))
    _look_at_head(tx, queue, lane)


def _look_at_head(tx: Transaction, queue: int, lane: bytes) -> None:
    """Open the lane if its first task is another one than before; forget it when it is empty."""
    first = tx.execute(GATES["first_in_lane"], (queue, lane)).fetchone()
    if first is None:
        tx.execute(GATES["delete_lane"], (queue, lane))
        return
    head, _, order, floor, _ = tx.execute(GATES["lane"], (queue, lane)).fetchone()
    if head == first[0]:
        return
    seq, rank, ord_ = first
    if floor is not None and rank <= floor:
        rank, ord_ = floor, order
    tx.execute(GATES["reopen_lane"], (seq, rank, ord_, queue, lane))


class Stand(NamedTuple):
    """A lane as it stands, with the place of its head."""

    lane: bytes
    rank: int
    ord: int
    floor: int | None
    used: int
    head_rank: int
    head_ord: int


Behind = tuple[int, int, int]
"""The task after the head: its seq, rank and ord."""

Rung = tuple[int, int]
"""Rank and ord of a lane: less stands first."""


class Turn(NamedTuple):
    """The turn of a fair lane: how many tasks it has, and the rank of one that ends now."""

    weight: int
    rank: int


def advance(tx: Transaction, queue: int, stand: Stand, turn: Turn | None = None) -> Rung | None:
    """Take a run out of its lane, of which the head of `stand` is the last. Returns where the lane
    stands then, None if it is empty.
    """
    lane = stand.lane
    tx.execute(GATES["delete_laned_through"], (queue, lane, stand.head_rank, stand.head_ord))
    behind = tx.execute(GATES["first_in_lane"], (queue, lane)).fetchone()
    if behind is None:
        tx.execute(GATES["delete_lane"], (queue, lane))
        return None
    moved = succeed(tx, stand, behind, turn)
    tx.execute(GATES["move_lane"], (*moved, queue, lane))
    return moved[1:3]


def succeed(
    tx: Transaction, stand: Stand, behind: Behind, turn: Turn | None
) -> tuple[int, int, int, int | None, int]:
    """Return a lane as it stands when its head has gone, with `turn` as one of the tasks of its
    turn: head, rank, ord, floor, used.
    """
    # It may look again, though perhaps in vain: most often a slot is freed before it does.
    head, rank, order = behind
    floor, used = stand.floor, stand.used
    if turn is not None:
        used += 1
        if used >= turn.weight:
            floor, used = turn.rank, 0
            if rank <= floor:
                rank, order = floor, tx.numbers(1)
        elif rank <= stand.rank:
            rank, order = stand.rank, stand.ord
    elif floor is not None and rank <= floor:
        rank, order = floor, stand.ord
    return head, rank, order, floor, used


def follow(stand: Stand, rank: int, order: int, *, turn: bool) -> Stand:
    """Return how a lane stands when the next one of its run is its head."""
    where = (stand.rank, stand.ord) if turn and rank <= stand.rank else (rank, order)
    return Stand(stand.lane, *where, stand.floor, stand.used + turn, rank, order)
