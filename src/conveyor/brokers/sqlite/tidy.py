"""Housekeeping: what is due is promoted, what is past its time is deleted, in small bites."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from conveyor.brokers.base import Tidied
from conveyor.brokers.sqlite import gates
from conveyor.brokers.sqlite.claim import promote
from conveyor.brokers.sqlite.endings import erase
from conveyor.brokers.sqlite.settle import DEAD_KEPT, KEPT
from conveyor.brokers.sqlite.transaction import Transaction


def tidy(tx: Transaction, limit: int) -> Tidied:
    """Do one round; at most `limit` of each kind."""
    promoted = 0
    for queue, name in tx.all("all_queues"):
        if promoted < limit:
            promoted += promote(tx, queue, name, limit - promoted)
    pruned = _prune_finished(tx, limit) + _prune_keys(tx, limit)
    pruned += _prune_events(tx, limit)
    pruned += gates.tidy(tx, limit)
    pruned += tx.run("prune_workers", (tx.now - DEAD_KEPT, tx.now - KEPT, limit))
    return Tidied(promoted, pruned)


def _prune_finished(tx: Transaction, limit: int) -> int:
    seen = 0
    while seen < limit and (row := tx.one("due_prune", (tx.now,))) is not None:
        number, packed = row
        seqs = array("q", packed)
        now, later = seqs[: limit - seen], seqs[limit - seen :]
        _check(tx, now)
        seen += len(now)
        if later:
            tx.run("shorten_prune", (later.tobytes(), number))
        else:
            tx.run("delete_prune", (number,))
    return seen


def _check(tx: Transaction, seqs: Sequence[int]) -> None:
    """Delete finished tasks that were kept long enough; of younger ones, only the result."""
    over = []
    for seq in seqs:
        row = tx.one("finished_times", (seq,))
        if row is None or row[1] > tx.now:
            # Revived or discarded since; if it has finished again, it is in a later batch.
            continue
        if row[0] + KEPT <= tx.now:
            over.append(seq)
        else:
            tx.run("expire_result", (row[0] + KEPT, seq))
            tx.check_later(row[0] + KEPT).append(seq)
    erase(tx, over)


def _prune_events(tx: Transaction, limit: int) -> int:
    oldest = tx.one("oldest_event")
    if oldest is None or oldest[0] > tx.now - KEPT:
        return 0
    return tx.run("prune_events", (limit, tx.now - KEPT))


def _prune_keys(tx: Transaction, limit: int) -> int:
    rows = tx.all("expired_keys", (tx.now, limit))
    tx.run_many("delete_key", rows)
    return len(rows)
