"""Storing how executions ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from conveyor.brokers.base import DEAD_RETENTION_SECONDS, RETENTION_SECONDS, Settlement
from conveyor.brokers.sql import NUMBERS
from conveyor.brokers.sqlite import lanes, terms
from conveyor.brokers.sqlite.rows import (
    CANCELLED,
    LEVEL,
    QUEUED,
    SCHEDULED,
    SUCCEEDED,
    Record,
    decode_story,
    encode,
    micros,
)
from conveyor.brokers.sqlite.transaction import NeedsCare, Transaction
from conveyor.core.task import State

KEPT = micros(RETENTION_SECONDS)
DEAD_KEPT = micros(DEAD_RETENTION_SECONDS)


def settle(tx: Transaction, settlements: Sequence[Settlement]) -> list[str]:
    """Store settlements in order; return the ids of those that were superseded."""
    refused = []
    good: list[tuple[Settlement, int, bytes]] = []
    rest: list[tuple[Settlement, int, bytes]] = []
    # Of two ends of one task the first counts, whatever it is: then they are taken one by one.
    ids = {settlement.lease.task.id for settlement in settlements}
    fast = len(ids) == len(settlements) and not tx.careful
    settling = tx.known.settling
    for settlement in settlements:
        found = settling(settlement.lease.task.id)
        if found is None:
            refused.append(settlement.lease.task.id)
        elif fast and settlement.transition.to is State.SUCCEEDED:
            good.append((settlement, *found))
        else:
            rest.append((settlement, *found))
    if good:
        _succeed(tx, good)
    refused += [
        settlement.lease.task.id
        for settlement, seq, task_id in rest
        if not _one(tx, settlement, seq, task_id)
    ]
    return refused


def _succeed(tx: Transaction, good: list[tuple[Settlement, int, bytes]]) -> None:
    """The hot path: all at once, and undone if any of them turns out to be superseded."""
    now, rows, fences, keyed, termed = tx.now, [], [], [], []
    changes: dict[tuple[int, str], list[bytes]] = {}
    checks: dict[float, list[int]] = {}
    for settlement, seq, task_id in good:
        lease, transition = settlement.lease, settlement.transition
        task, execution, ttl = lease.task, lease.execution, lease.task.result_ttl
        if ttl in checks:
            checks[ttl].append(seq)
        else:
            checks[ttl] = [seq]
        record = encode(Record(settlement.execution, transition.counters))
        check_at = now + (KEPT if ttl == RETENTION_SECONDS else micros(ttl))
        rows.append((seq, SUCCEEDED, now, check_at, execution, transition.result, record))
        fences.append((seq, execution))
        if task.key is not None:
            keyed.append((now + KEPT, seq))
        if task.terms is not None:
            termed.append((seq, task.terms))
        change = (execution, task.queue)
        if change in changes:
            changes[change].append(task_id)
        else:
            changes[change] = [task_id]
    if tx.run_many("delete_lease", fences) != len(good):
        raise NeedsCare
    tx.run_many("insert_finished", rows)
    tx.run_many("end_key", keyed)
    if termed:
        terms.ended(tx, termed)
    for ttl, seqs in checks.items():
        tx.check_later(now + micros(ttl)).extend(seqs)
    for (execution, queue), ids in changes.items():
        tx.change_of(SUCCEEDED, execution, tx.known.queue(queue)).extend(ids)


def _one(tx: Transaction, settlement: Settlement, seq: int, task_id: bytes) -> bool:
    """Store one settlement; says whether its execution was still the one that counts."""
    lease, transition = settlement.lease, settlement.transition
    row = tx.one("find_lease", (seq, lease.execution))
    if row is None:
        return False
    cancelled, why = row
    tx.run("delete_lease", (seq, lease.execution))
    if not transition.to.is_final and not cancelled:
        _live_on(tx, settlement, seq, task_id)
        return True
    state = NUMBERS[transition.to] if transition.to.is_final else CANCELLED
    reason = transition.reason
    if state == CANCELLED:
        reason = why or reason
    record = Record(settlement.execution, transition.counters, transition.error, reason)
    result = transition.result if state == SUCCEEDED else None
    ending = Ending(state, lease.execution, record, result, lease.task.result_ttl)
    finish(tx, seq, ending)
    if lease.task.terms is not None:
        terms.ended(tx, [(seq, lease.task.terms)])
    tx.changed(state, lease.execution, tx.known.queue(lease.task.queue), task_id)
    return True


class Ending(NamedTuple):
    """How a task finished."""

    state: int
    execution: int
    record: Record
    result: bytes | None = None
    ttl: float = RETENTION_SECONDS
    """Seconds that a success keeps its result."""


def finish(tx: Transaction, seq: int, ending: Ending) -> None:
    """Put a task among the finished."""
    state, execution, record, result, ttl = ending
    now = tx.now
    check_at = now + (micros(ttl) if state == SUCCEEDED else DEAD_KEPT)
    tx.run("insert_finished", (seq, state, now, check_at, execution, result, encode(record)))
    tx.check_later(check_at).append(seq)
    tx.run("end_key", (now + KEPT, seq))


def _live_on(tx: Transaction, settlement: Settlement, seq: int, task_id: bytes) -> None:
    lease, transition = settlement.lease, settlement.transition
    task, number = lease.task, lease.execution
    queue = tx.known.queue(task.queue)
    error = transition.error
    if settlement.execution is not None:
        tx.run("insert_execution", (seq, number, encode(settlement.execution)))
    elif error is None:
        # Nothing ran, so what is known of the last run stays true.
        error = decode_story(tx.one("story", (seq,))[0]).error
    story = encode(Record(None, transition.counters, error, transition.reason))
    order = tx.numbers(1)
    terms.put_back(tx, seq, task_id, task)
    if transition.to is State.SCHEDULED:
        rank = tx.now + micros(transition.delay)
        tx.run("insert_due", (queue, rank, order, seq, task.priority))
        tx.changed(SCHEDULED, number, queue, task_id)
    else:
        rank = tx.now - task.priority * LEVEL
        tx.changed(QUEUED, number, queue, task_id)
        if transition.parked:
            tx.run("insert_parked", (seq, queue, tx.known.name(task.name)))
        elif lane := lanes.mark_of(task.terms):
            lanes.rejoin(tx, lanes.Place(queue, lane, rank, order), seq, task.priority)
            tx.wake.add(task.queue)
        else:
            tx.run("insert_ready", (queue, rank, order, seq, task.priority))
            tx.wake.add(task.queue)
    tx.run("settle_task", (rank, order, number, story, seq))
