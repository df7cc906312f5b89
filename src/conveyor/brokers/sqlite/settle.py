"""Storing how executions ended."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.brokers.base import DEAD_RETENTION_SECONDS, RETENTION_SECONDS, Settlement
from conveyor.brokers.sqlite.rows import (
    CANCELLED,
    LEVEL,
    NUMBER,
    QUEUED,
    SCHEDULED,
    SUCCEEDED,
    Record,
    decode_story,
    encode,
    micros,
    pack_ids,
)
from conveyor.brokers.sqlite.statements import SQL
from conveyor.brokers.sqlite.transaction import NeedsCare, Transaction
from conveyor.core.task import State

KEPT = micros(RETENTION_SECONDS)
DEAD_KEPT = micros(DEAD_RETENTION_SECONDS)


def settle(tx: Transaction, settlements: Sequence[Settlement]) -> list[str]:
    """Store settlements in order; return the ids of those that were superseded."""
    if not settlements:
        return []
    ids = pack_ids([settlement.lease.task.id for settlement in settlements])
    pairs = list(zip(settlements, ids, strict=True))
    if not tx.careful and len(set(ids)) == len(ids):
        _succeed(tx, [pair for pair in pairs if pair[0].transition.to is State.SUCCEEDED])
        pairs = [pair for pair in pairs if pair[0].transition.to is not State.SUCCEEDED]
    return [
        settlement.lease.task.id
        for settlement, task_id in pairs
        if not _one(tx, settlement, task_id)
    ]


def _succeed(tx: Transaction, pairs: list[tuple[Settlement, bytes]]) -> None:
    """The hot path: all at once, and undone if any of them turns out to be superseded."""
    if not pairs:
        return
    now, rows, fences, keyed = tx.now, [], [], []
    changes: dict[tuple[int, str], list[bytes]] = {}
    for settlement, task_id in pairs:
        lease, transition = settlement.lease, settlement.transition
        task, execution = lease.task, lease.execution
        record = encode(Record(settlement.execution, transition.counters))
        rows.append(
            (now, now + micros(task.result_ttl), transition.result, record, task_id, execution)
        )
        fences.append((task_id, execution))
        if task.key is not None:
            keyed.append((now + KEPT, task_id))
        change = (execution, task.queue)
        if change in changes:
            changes[change].append(task_id)
        else:
            changes[change] = [task_id]
    stored = tx.executemany(SQL["succeed"], rows).rowcount
    ended = tx.executemany(SQL["delete_lease"], fences).rowcount
    if not stored == ended == len(pairs):
        raise NeedsCare
    if keyed:
        tx.executemany(SQL["end_key_of_id"], keyed)
    for (execution, queue), ids in changes.items():
        tx.change_of(SUCCEEDED, execution, tx.names.queue(queue)).extend(ids)


def _one(tx: Transaction, settlement: Settlement, task_id: bytes) -> bool:
    """Store one settlement; says whether its execution was still the one that counts."""
    lease, transition = settlement.lease, settlement.transition
    row = tx.one("find_lease", (task_id, lease.execution))
    if row is None:
        return False
    seq, cancelled, why = row
    tx.run("delete_lease", (task_id, lease.execution))
    if not transition.to.is_final and not cancelled:
        _live_on(tx, settlement, seq, task_id)
        return True
    state = NUMBER[transition.to] if transition.to.is_final else CANCELLED
    reason = transition.reason
    if state == CANCELLED:
        reason = why or reason
    record = Record(settlement.execution, transition.counters, transition.error, reason)
    result = transition.result if state == SUCCEEDED else None
    finish(tx, seq, state, lease.execution, record, result, ttl=lease.task.result_ttl)
    tx.changed(state, lease.execution, tx.names.queue(lease.task.queue), task_id)
    return True


def finish(
    tx: Transaction,
    seq: int,
    state: int,
    execution: int,
    record: Record,
    result: bytes | None = None,
    *,
    ttl: float = RETENTION_SECONDS,
) -> None:
    """Put a task among the finished; `ttl` is how long a success keeps its result, in seconds."""
    now = tx.now
    check_at = now + (micros(ttl) if state == SUCCEEDED else DEAD_KEPT)
    tx.run("insert_finished", (seq, state, now, check_at, execution, result, encode(record)))
    tx.run("end_key", (now + KEPT, seq))


def _live_on(tx: Transaction, settlement: Settlement, seq: int, task_id: bytes) -> None:
    lease, transition = settlement.lease, settlement.transition
    task, number = lease.task, lease.execution
    queue = tx.names.queue(task.queue)
    error = transition.error
    if settlement.execution is not None:
        tx.run("insert_execution", (seq, number, encode(settlement.execution)))
    elif error is None:
        # Nothing ran, so what is known of the last run stays true.
        error = decode_story(tx.one("story", (seq,))[0]).error
    story = encode(Record(None, transition.counters, error, transition.reason))
    order = tx.numbers(1)
    if transition.to is State.SCHEDULED:
        rank = tx.now + micros(transition.delay)
        tx.run("insert_due", (queue, rank, order, seq, task.priority))
        tx.changed(SCHEDULED, number, queue, task_id)
    else:
        rank = tx.now - task.priority * LEVEL
        tx.changed(QUEUED, number, queue, task_id)
        if transition.parked:
            tx.run("insert_parked", (seq, queue, tx.names.name(task.name)))
        else:
            tx.run("insert_ready", (queue, rank, order, seq, task.priority))
            tx.wake.add(task.queue)
    tx.run("settle_task", (rank, order, number, story, seq))
