"""Leases of workers: renewal, the sweep, grace; notes of what they run; leadership."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.brokers.base import Holding, Note, Renewal, WorkerInfo
from conveyor.brokers.sqlite.rows import (
    MICROS,
    Jotting,
    decode_jotting,
    decode_story,
    decode_task,
    encode,
    micros,
    pack_id,
    unpack_id,
)
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.task import Lease


def renew(
    tx: Transaction, workers: Sequence[str], seconds: float, info: WorkerInfo | None
) -> dict[str, Renewal]:
    """Make leases good for `seconds` from now, those excepted that were swept."""
    until = tx.now + micros(seconds) if seconds > 0 else 0
    renewals = {token: _renew(tx, token, until) for token in workers}
    if info is not None:
        tx.run("describe_worker", (encode(info), info.id))
    return renewals


def _renew(tx: Transaction, token: str, until: int) -> Renewal:
    row = tx.one("find_worker", (token,))
    if row is None:
        if until:
            tx.run("insert_worker", (token, until))
        return Renewal(alive=True)
    number, _, swept = row
    cancels = [unpack_id(found[0]) for found in tx.all("cancels", (number,))]
    if not swept:
        tx.run("renew_worker", (until, number))
    return Renewal(not swept, cancels)


def held(tx: Transaction, worker: str | None, limit: int) -> list[Holding]:
    """List running tasks of one worker, or of all whose lease is over, which are then swept."""
    if worker is not None:
        return [_holding(row) for row in tx.all("held_by", (worker, limit))]
    rows = tx.all("held_by_silent", (tx.now, limit))
    for number in {row[7] for row in rows}:
        tx.run("sweep", (number,))
    return [_holding(row) for row in rows]


def _holding(row: tuple[Any, ...]) -> Holding:
    body, execution, story, cancel, token, at, note, _ = row
    task = decode_task(body)
    lease = Lease(task, execution, decode_story(story).counters, cancel > 0, token, at / MICROS)
    if note is None:
        return Holding(lease)
    jotting = decode_jotting(note)
    return Holding(lease, Note(task.id, task.queue, execution, jotting.progress, jotting.logs))


def grace(tx: Transaction, seconds: float) -> None:
    """Lengthen every lease that was not swept."""
    more = micros(seconds)
    tx.run("grace", (more, tx.now + 2 * more))


def annotate(tx: Transaction, notes: Sequence[Note]) -> list[bool]:
    """Store notes of running executions."""
    return [
        tx.run(
            "annotate",
            (encode(Jotting(note.progress, note.logs)), pack_id(note.id), note.execution),
        )
        == 1
        for note in notes
    ]


def lead(tx: Transaction, role: str, holder: str, seconds: float) -> float | None:
    """Take, keep or give up a role."""
    row = tx.one("leader", (role,))
    if row is not None and row[0] != holder and row[1] > tx.now:
        return None
    if seconds > 0:
        tx.run("set_leader", (role, holder, tx.now + micros(seconds)))
    else:
        tx.run("unset_leader", (role,))
    return tx.now / MICROS
