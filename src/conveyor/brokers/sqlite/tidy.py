"""Housekeeping: what is due is promoted, what is past its time is deleted, in small bites."""

from __future__ import annotations

from conveyor.brokers.base import Tidied
from conveyor.brokers.sqlite.claim import promote
from conveyor.brokers.sqlite.endings import erase
from conveyor.brokers.sqlite.settle import KEPT
from conveyor.brokers.sqlite.transaction import Transaction


def tidy(tx: Transaction, limit: int) -> Tidied:
    """Do one round; at most `limit` of each kind."""
    promoted = 0
    for queue, name in tx.all("all_queues"):
        if promoted < limit:
            promoted += promote(tx, queue, name, limit - promoted)
    pruned = _prune_finished(tx, limit) + _prune_keys(tx, limit)
    pruned += tx.run("prune_events", (limit, tx.now - KEPT))
    pruned += tx.run("prune_workers", (tx.now - KEPT, limit))
    return Tidied(promoted, pruned)


def _prune_finished(tx: Transaction, limit: int) -> int:
    rows = tx.all("to_check", (tx.now, limit))
    over = [seq for seq, finished_at in rows if finished_at + KEPT <= tx.now]
    early = [
        (finished_at + KEPT, seq) for seq, finished_at in rows if finished_at + KEPT > tx.now
    ]
    erase(tx, over)
    tx.run_many("expire_result", early)
    return len(rows)


def _prune_keys(tx: Transaction, limit: int) -> int:
    rows = tx.all("expired_keys", (tx.now, limit))
    tx.run_many("delete_key", rows)
    return len(rows)
