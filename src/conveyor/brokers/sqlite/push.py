"""Storing new tasks."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from conveyor.brokers.base import Pushed
from conveyor.brokers.sqlite.rows import (
    LEVEL,
    QUEUED,
    SCHEDULED,
    encode,
    micros,
    pack_ids,
    unpack_id,
)
from conveyor.brokers.sqlite.statements import SQL
from conveyor.brokers.sqlite.transaction import NeedsCare, Transaction
from conveyor.core.task import NewTask, Task


class Batch(NamedTuple):
    """Tasks made ready for storing while the connection is busy with others."""

    tasks: list[Task]
    ids: list[bytes]
    bodies: list[bytes]
    dues: list[tuple[float | None, float | None]] | None
    """Delay and due time of each; None when all may start at once."""
    keyed: bool


def prepare(news: Sequence[NewTask]) -> Batch:
    """Encode tasks. Raises `InvalidOption` for an id that is no UUID."""
    tasks = [new.task for new in news]
    dues = None
    if any(new.delay is not None or new.due_at is not None for new in news):
        dues = [(new.delay, new.due_at) for new in news]
    return Batch(
        tasks,
        pack_ids([task.id for task in tasks]),
        [encode(task) for task in tasks],
        dues,
        any(task.key is not None for task in tasks),
    )


def push(tx: Transaction, batch: Batch) -> list[Pushed]:
    """Store the batch: fast when every task is new, one by one when any is a repeat."""
    if tx.careful:
        return _one_by_one(tx, batch)
    try:
        _all_new(tx, batch)
    except sqlite3.IntegrityError as exc:
        raise NeedsCare from exc
    return [Pushed(task.id) for task in batch.tasks]


def _all_new(tx: Transaction, batch: Batch) -> None:
    count = len(batch.tasks)
    first = tx.numbers(count)
    queue, name, now = tx.names.queue, tx.names.name, tx.now
    due_at = _due_times(tx, batch)
    rows = [
        (
            seq,
            task_id,
            queue(task.queue),
            name(task.name),
            task.priority,
            now - task.priority * LEVEL if due is None else due,
            body,
        )
        for seq, task, task_id, body, due in zip(
            range(first, first + count), batch.tasks, batch.ids, batch.bodies, due_at, strict=True
        )
    ]
    if batch.keyed:
        keys = [
            (row[2], row[3], task.key, row[0], task.digest)
            for row, task in zip(rows, batch.tasks, strict=True)
            if task.key is not None
        ]
        tx.executemany(SQL["insert_key"], keys)
    tx.executemany(SQL["insert_task"], rows)
    if batch.dues is None:
        tx.execute(SQL["ready_new_tasks"], (first, first + count - 1))
        _tell(tx, batch)
        return
    for row, task, due in zip(rows, batch.tasks, due_at, strict=True):
        _place(tx, row[0], row[1], row[2], task, due)


def _tell(tx: Transaction, batch: Batch) -> None:
    wake = {task.queue for task in batch.tasks}
    tx.wake |= wake
    if len(wake) == 1:
        tx.change_of(QUEUED, 0, tx.names.queue(wake.pop())).extend(batch.ids)
        return
    for task, task_id in zip(batch.tasks, batch.ids, strict=True):
        tx.changed(QUEUED, 0, tx.names.queue(task.queue), task_id)


def _due_times(tx: Transaction, batch: Batch) -> list[int | None]:
    """When each task is due, None for those that may start now."""
    if batch.dues is None:
        return [None] * len(batch.tasks)
    times: list[int | None] = []
    for delay, due_at in batch.dues:
        at = tx.now
        if delay is not None:
            at += micros(delay)
        elif due_at is not None:
            at = micros(due_at)
        times.append(at if at > tx.now else None)
    return times


def _place(
    tx: Transaction, seq: int, task_id: bytes, queue: int, task: Task, due: int | None
) -> None:
    if due is None:
        rank = tx.now - task.priority * LEVEL
        tx.execute(SQL["insert_ready"], (queue, rank, seq, seq, task.priority))
        tx.changed(QUEUED, 0, queue, task_id)
        tx.wake.add(task.queue)
    else:
        tx.execute(SQL["insert_due"], (queue, due, seq, seq, task.priority))
        tx.changed(SCHEDULED, 0, queue, task_id)


def _one_by_one(tx: Transaction, batch: Batch) -> list[Pushed]:
    due_at = _due_times(tx, batch)
    return [
        _one(tx, task, task_id, body, due)
        for task, task_id, body, due in zip(
            batch.tasks, batch.ids, batch.bodies, due_at, strict=True
        )
    ]


def _one(tx: Transaction, task: Task, task_id: bytes, body: bytes, due: int | None) -> Pushed:
    if tx.one("find_task", (task_id,)) is not None:
        return Pushed(task.id)
    queue, name = tx.names.queue(task.queue), tx.names.name(task.name)
    if task.key is not None:
        older = _holder_of(tx, queue, name, task)
        if older is not None:
            return older
    seq = tx.numbers(1)
    if task.key is not None:
        tx.run("insert_key", (queue, name, task.key, seq, task.digest))
    rank = tx.now - task.priority * LEVEL if due is None else due
    tx.run("insert_task", (seq, task_id, queue, name, task.priority, rank, body))
    _place(tx, seq, task_id, queue, task, due)
    return Pushed(task.id)


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
