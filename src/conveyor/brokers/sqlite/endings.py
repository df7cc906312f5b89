"""What people do to tasks: cancel, postpone, reschedule, requeue, discard; and pause queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from conveyor.brokers.sql import STATES
from conveyor.brokers.sqlite import lanes, stalls, terms
from conveyor.brokers.sqlite.lanes import Place
from conveyor.brokers.sqlite.rows import (
    CANCELLED,
    FAILED,
    LEVEL,
    QUEUED,
    Record,
    decode_record,
    decode_story,
    decode_task,
    encode,
    micros,
    pack_id,
)
from conveyor.brokers.sqlite.settle import Ending, finish
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.lifecycle import cancellation
from conveyor.core.task import Pause, State


class _Whereabouts(NamedTuple):
    """A row of the statement `whereabouts`."""

    seq: int
    queue: int
    rank: int
    ord: int
    execution: int
    story: bytes | None
    body: bytes
    finished: int | None
    """Final state, None while the task lives."""
    worker: int | None
    due: int | None
    """Its number again when it is scheduled: then `rank` is when it is due."""
    parked: int | None
    lane: bytes | None
    """Where it waits when queued; empty for the plain line of one that holds a unique key."""

    @property
    def place(self) -> Place:
        """Where it waits in its lane."""
        return Place(self.queue, self.lane or b"", self.rank, self.ord)


def _find(tx: Transaction, task_id: str) -> tuple[_Whereabouts, bytes] | None:
    packed = pack_id(task_id)
    row = None if packed is None else tx.one("whereabouts", (packed,))
    return None if row is None or packed is None else (_Whereabouts(*row), packed)


def cancel(tx: Transaction, ids: Sequence[str], by: str, reason: str) -> dict[str, State]:
    """Cancel waiting tasks, flag running ones; return the states of those that exist."""
    why = cancellation(by, reason)
    states = {}
    for task_id in ids:
        found = _find(tx, task_id)
        if found is not None:
            states[task_id] = _cancel(tx, *found, why)
    return states


def _cancel(tx: Transaction, task: _Whereabouts, task_id: bytes, why: str) -> State:
    if task.finished is not None:
        return STATES[task.finished]
    if task.worker is not None:
        tx.run("flag_cancel", (why, task.seq))
        tx.wake_workers.add(tx.one("token_of_worker", (task.worker,))[0])
        return State.RUNNING
    _take_out(tx, task)
    record = Record(None, decode_story(task.story).counters, None, why)
    finish(tx, task.seq, Ending(CANCELLED, task.execution, record))
    if task.lane is not None and (asked := decode_task(task.body).terms) is not None:
        terms.ended(tx, [(task.seq, asked)])
    tx.changed(CANCELLED, task.execution, task.queue, task_id)
    return State.CANCELLED


def _take_out(tx: Transaction, task: _Whereabouts) -> None:
    if task.parked is not None:
        tx.run("delete_parked", (task.seq,))
        return
    if task.due is None and task.lane:
        lanes.leave(tx, task.place)
        _let_others_look(tx, task)
        return
    table = "ready" if task.due is None else "due"
    tx.run(f"delete_{table}", (task.queue, task.rank, task.ord))


def cancel_waiting(tx: Transaction, task_id: str, why: str) -> bool:
    """Cancel a task unless it runs or is over; says whether it waited."""
    found = _find(tx, task_id)
    if found is None or found[0].finished is not None or found[0].worker is not None:
        return False
    _cancel(tx, *found, why)
    return True


def postpone(tx: Transaction, task_id: str, due: int) -> None:
    """Let a task that is not due yet start no earlier than `due`; any other is left alone."""
    found = _find(tx, task_id)
    if found is None or found[0].due is None or not tx.now < found[0].rank < due:
        return
    task = found[0]
    _take_out(tx, task)
    row = (task.queue, due, task.ord, task.seq, decode_task(task.body).priority)
    tx.run("insert_due", row)
    tx.run("place_task", (due, task.ord, task.seq))


def reschedule(
    tx: Transaction, ids: Sequence[str], delay: float | None, due_at: float | None
) -> list[str]:
    """Let scheduled tasks be due at another time; return those that were scheduled."""
    due = tx.now + micros(delay or 0.0) if due_at is None else micros(due_at)
    moved = []
    for task_id in dict.fromkeys(ids):
        found = _find(tx, task_id)
        if found is not None and found[0].due is not None:
            _move(tx, found[0], due)
            moved.append(task_id)
    return moved


def _move(tx: Transaction, task: _Whereabouts, due: int) -> None:
    _take_out(tx, task)
    body = decode_task(task.body)
    tx.run("insert_due", (task.queue, due, task.ord, task.seq, body.priority))
    tx.run("place_task", (due, task.ord, task.seq))
    tx.wake.add(body.queue)


def _let_others_look(tx: Transaction, task: _Whereabouts) -> None:
    """Its lane may have been the one that was let out to look at a gate for all the others."""
    asked = decode_task(task.body).terms
    stalls.stir_by_name(tx, () if asked is None else asked.gates)


def requeue(tx: Transaction, ids: Sequence[str], *, dead_only: bool) -> list[str]:
    """Give dead letters another life, and make scheduled tasks due unless `dead_only`."""
    revived = []
    for task_id in ids:
        found = _find(tx, task_id)
        if found is None or (dead_only and found[0].finished is None):
            continue
        if _requeue(tx, *found):
            revived.append(task_id)
    return revived


def _requeue(tx: Transaction, task: _Whereabouts, task_id: bytes) -> bool:
    if task.due is not None:
        _take_out(tx, task)
        story, execution = task.story, task.execution
    elif task.finished in {FAILED, CANCELLED}:
        story, execution = None, _bury(tx, task)
    else:
        return False
    body = decode_task(task.body)
    rank, order = tx.now - body.priority * LEVEL, tx.numbers(1)
    if task.lane:
        place = Place(task.queue, task.lane, rank, order)
        lanes.rejoin(tx, place, task.seq, body.priority)
    else:
        tx.run("insert_ready", (task.queue, rank, order, task.seq, body.priority))
    if task.due is None:
        terms.take_back(tx, task.seq, task_id, body)
    tx.run("settle_task", (rank, order, execution, story, task.seq))
    if body.key is not None:
        name = tx.known.name(body.name)
        tx.run("revive_key", (task.queue, name, body.key, task.seq, body.digest))
    tx.changed(QUEUED, execution, task.queue, task_id)
    tx.wake.add(body.queue)
    return True


def _bury(tx: Transaction, task: _Whereabouts) -> int:
    """Turn the finished record into history; return the number of the last execution."""
    _, number, packed = tx.one("finished", (task.seq,))
    last = decode_record(packed).execution
    if last is not None:
        tx.run("insert_execution", (task.seq, last.number, encode(last)))
    tx.run("delete_finished", (task.seq,))
    return int(number)


def discard(tx: Transaction, ids: Sequence[str]) -> list[str]:
    """Delete dead letters; return the ids deleted."""
    deleted = []
    for task_id in ids:
        found = _find(tx, task_id)
        if found is not None and found[0].finished in {FAILED, CANCELLED}:
            erase(tx, [found[0].seq])
            deleted.append(task_id)
    return deleted


def erase(tx: Transaction, seqs: Sequence[int]) -> None:
    """Delete finished tasks and all that belongs to them."""
    rows: list[Any] = [(seq,) for seq in seqs]
    for table in ("finished", "executions", "key_of", "task"):
        tx.run_many(f"delete_{table}", rows)


def pause(tx: Transaction, queue: str, pause: Pause | None) -> None:
    """Pause a queue, or resume it and ring for everyone."""
    if pause is None and not tx.known.known_queues([queue]):
        return
    note = None if pause is None else encode(pause)
    tx.run("set_pause", (note, tx.known.queue(queue)))
    tx.wake_all |= pause is None
