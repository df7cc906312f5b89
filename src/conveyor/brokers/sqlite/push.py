"""Storing new tasks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from conveyor.brokers.base import Pushed
from conveyor.brokers.sqlite import lanes, unique
from conveyor.brokers.sqlite.lanes import GATES
from conveyor.brokers.sqlite.rows import (
    LEVEL,
    QUEUED,
    SCHEDULED,
    encode,
    micros,
    pack_ids,
    unpack_id,
)
from conveyor.brokers.sqlite.transaction import NeedsCare, Transaction
from conveyor.core.task import NewTask, Task

_Row = tuple[int, bytes, int, int, int, int, bytes]
"""Sequence number, id, queue, name, priority, rank, body."""

_NOW: tuple[None, None] = (None, None)


class Batch(NamedTuple):
    """Tasks made ready for storing while the connection is busy with others."""

    tasks: list[Task]
    ids: list[bytes]
    bodies: list[bytes]
    dues: list[tuple[float | None, float | None]] | None
    """Delay and due time of each; None when all may start at once."""
    keyed: bool
    termed: bool
    """Whether any task has terms."""
    unique: bool
    """Whether any task wants a unique key."""


def prepare(news: Sequence[NewTask]) -> Batch:
    """Encode tasks. Raises `InvalidOption` for an id that is no UUID."""
    tasks = [new.task for new in news]
    terms = [task.terms for task in tasks if task.terms is not None]
    dues = None
    if any(new.delay is not None or new.due_at is not None for new in news):
        dues = [(new.delay, new.due_at) for new in news]
    return Batch(
        tasks,
        pack_ids([task.id for task in tasks]),
        [encode(task) for task in tasks],
        dues,
        any(task.key is not None for task in tasks),
        bool(terms),
        any(asked.unique is not None for asked in terms),
    )


def push(tx: Transaction, batch: Batch) -> list[Pushed]:
    """Store the batch: fast when every task is new, one by one when any is a repeat."""
    rows = list(_rows(tx, batch))
    if tx.careful or batch.unique or (batch.termed and batch.dues is not None):
        return [_one(tx, task, row) for task, row in zip(batch.tasks, rows, strict=True)]
    try:
        _all_new(tx, batch, rows)
    except sqlite3.IntegrityError as exc:
        raise NeedsCare from exc
    return [Pushed(task.id) for task in batch.tasks]


def _rows(tx: Transaction, batch: Batch) -> Iterator[_Row]:
    """Return the columns of each task: its rank is when it is due, if that is to come, or else its
    place in the order of the claim.
    """
    first = tx.numbers(len(batch.tasks))
    queue, name, now = tx.known.queue, tx.known.name, tx.now
    dues = batch.dues or [_NOW] * len(batch.tasks)
    for seq, task, task_id, body, due in zip(
        range(first, first + len(batch.tasks)),
        batch.tasks,
        batch.ids,
        batch.bodies,
        dues,
        strict=True,
    ):
        rank = now - task.priority * LEVEL if due is _NOW else _rank(task, due, now)
        yield seq, task_id, queue(task.queue), name(task.name), task.priority, rank, body


def _rank(task: Task, due: tuple[float | None, float | None], now: int) -> int:
    delay, due_at = due
    at = now
    if delay is not None:
        at += micros(delay)
    elif due_at is not None:
        at = micros(due_at)
    return at if at > now else now - task.priority * LEVEL


def _all_new(tx: Transaction, batch: Batch, rows: list[_Row]) -> None:
    if batch.keyed:
        keys = [
            (queue, name, task.key, seq, task.digest)
            for task, (seq, _, queue, name, *_) in zip(batch.tasks, rows, strict=True)
            if task.key is not None
        ]
        tx.run_many("insert_key", keys)
    if batch.termed:
        _all_marked(tx, batch, rows)
        _tell(tx, batch)
        return
    tx.run_many("insert_task", rows)
    if batch.dues is None and rows:
        tx.run("ready_new_tasks", (rows[0][0], rows[-1][0]))
        _tell(tx, batch)
        return
    for task, row in zip(batch.tasks, rows, strict=True):
        _place(tx, task, row)


def _all_marked(tx: Transaction, batch: Batch, rows: list[_Row]) -> None:
    """Store tasks of which some wait in lanes, all of them from now on."""
    marked, heads = [], {}
    for task, row in zip(batch.tasks, rows, strict=True):
        seq, _, queue, _, _, rank, _ = row
        mark = lanes.mark_of(task.terms)
        marked.append((*row, mark))
        if mark and (queue, mark) not in heads:
            heads[queue, mark] = (queue, mark, seq, rank, seq)
    tx.executemany(GATES["insert_marked_task"], marked)
    through = (rows[0][0], rows[-1][0])
    tx.execute(GATES["ready_new_marked_tasks"], through)
    tx.execute(GATES["lane_new_tasks"], through)
    tx.executemany(GATES["insert_lane"], list(heads.values()))


def _tell(tx: Transaction, batch: Batch) -> None:
    wake = {task.queue for task in batch.tasks}
    tx.wake |= wake
    if len(wake) == 1:
        tx.change_of(QUEUED, 0, tx.known.queue(wake.pop())).extend(batch.ids)
        return
    for task, task_id in zip(batch.tasks, batch.ids, strict=True):
        tx.changed(QUEUED, 0, tx.known.queue(task.queue), task_id)


def _place(tx: Transaction, task: Task, row: _Row) -> None:
    """Put a task where it waits, and tell of it."""
    seq, task_id, queue, _, priority, rank, _ = row
    scheduled = rank > tx.now
    tx.run("insert_due" if scheduled else "insert_ready", (queue, rank, seq, seq, priority))
    tx.changed(SCHEDULED if scheduled else QUEUED, 0, queue, task_id)
    if not scheduled:
        tx.wake.add(task.queue)


def _one(tx: Transaction, task: Task, row: _Row) -> Pushed:
    """Store a task unless it, or another one with its key, is there already."""
    seq, task_id, queue, name, *_ = row
    if tx.one("find_task", (task_id,)) is not None:
        return Pushed(task.id)
    if task.key is not None:
        older = _holder_of(tx, queue, name, task)
        if older is not None:
            return older
    if task.terms is not None and (holder := _with_terms(tx, task, row)) is not None:
        return holder
    if task.terms is None:
        tx.run("insert_task", row)
        _place(tx, task, row)
    if task.key is not None:
        tx.run("insert_key", (queue, name, task.key, seq, task.digest))
    return Pushed(task.id)


def _with_terms(tx: Transaction, task: Task, row: _Row) -> Pushed | None:
    """Store a new task that may hold a unique key and wait in a lane; or name who has the key."""
    seq, task_id, queue, name, priority, rank, body = row
    mark = lanes.mark_of(task.terms)
    if task.terms is not None and (rule := task.terms.unique) is not None:
        claimant = unique.Claimant(task, rule, seq, task_id, queue, name)
        answer = unique.claim(tx, claimant, rank)
        if isinstance(answer, Pushed):
            return answer
        rank = answer
    row = (seq, task_id, queue, name, priority, rank, body)
    tx.execute(GATES["insert_marked_task"], (*row, mark))
    if mark and rank <= tx.now:
        lanes.join(tx, lanes.Place(queue, mark, rank, seq), seq, priority)
        tx.changed(QUEUED, 0, queue, task_id)
        tx.wake.add(task.queue)
    else:
        _place(tx, task, row)
    return None


def _holder_of(tx: Transaction, queue: int, name: int, task: Task) -> Pushed | None:
    """Who has the task's key, if somebody does; a key that ran out is deleted."""
    row = tx.one("find_key", (queue, name, task.key))
    if row is None:
        return None
    holder, digest, expires = row
    if holder is None or (expires is not None and expires <= tx.now):
        tx.run("delete_key", (queue, name, task.key))
        return None
    return Pushed(unpack_id(holder), created=False, conflict=digest != task.digest)
