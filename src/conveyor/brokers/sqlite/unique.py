"""Unique keys: at most one task per queue, name and key, for as long as its rule says."""

from __future__ import annotations

from typing import NamedTuple

from conveyor.brokers.base import Pushed
from conveyor.brokers.sqlite.endings import cancel_waiting, postpone
from conveyor.brokers.sqlite.lanes import GATES
from conveyor.brokers.sqlite.rows import LEVEL, micros, unpack_id
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.lifecycle import cancellation
from conveyor.core.task import Task, Unique


class Claimant(NamedTuple):
    """A task on its way in that wants a key."""

    task: Task
    rule: Unique
    seq: int
    id: bytes
    queue: int
    name: int


def claim(tx: Transaction, claimant: Claimant, rank: int) -> Pushed | int:
    """Take the key for a new task and return its rank, which debounce moves; or the answer that
    names the holder.
    """
    task, rule, seq, task_id, queue, name = claimant
    found = tx.execute(GATES["find_unique"], (queue, name, rule.key)).fetchone()
    began = tx.now
    if found is not None and (found[2] is None or found[2] > tx.now):
        holder = unpack_id(found[0])
        why = cancellation("", f"replaced by {task.id}")
        if rule.on_conflict != "replace" or not cancel_waiting(tx, holder, why):
            if rule.debounce:
                postpone(tx, holder, _due(tx, rule, found[1]))
            return Pushed(holder, created=False, conflict=rule.on_conflict == "raise")
        began = found[1]
    expires = tx.now + micros(rule.seconds) if rule.until == "period" else None
    row = (queue, name, rule.key, seq, task_id, began, expires)
    tx.execute(GATES["take_unique"], row)
    if not rule.debounce:
        return rank
    due = _due(tx, rule, began)
    return due if due > tx.now else tx.now - task.priority * LEVEL


def _due(tx: Transaction, rule: Unique, began: int) -> int:
    """When a debounced task is due whose series began then."""
    due = tx.now + micros(rule.seconds)
    return min(due, began + micros(rule.longest)) if rule.longest > 0 else due
