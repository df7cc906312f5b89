"""Requeue and discard, by the queue's own verbs; the list follows at once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from conveyor_console.console import Console
from conveyor_console.dead_letters.schemas import Changed
from conveyor_console.history.letters import letters
from conveyor_console.history.models import DeadLetter
from conveyor_console.history.writing import bury, requeued
from conveyor_console.kit.filters import Condition

MOST = 10_000
_CHUNK = 500
Letter = tuple[str, float]
"""Id and time of death."""


async def named(console: Console, ids: Sequence[str]) -> list[Letter]:
    """Return those of the ids that are dead letters."""
    found: list[Letter] = []
    async with console.database.reading() as db:
        for start in range(0, len(ids), _CHUNK):
            part = select(DeadLetter.task_id, DeadLetter.died_at).where(
                DeadLetter.task_id.in_(ids[start : start + _CHUNK])
            )
            found += [(task_id, died_at) for task_id, died_at in await db.execute(part)]
    return found


async def fitting(console: Console, wanted: Sequence[Condition]) -> tuple[list[Letter], bool]:
    """Return the dead letters that fit, and whether there may be more than these."""
    async with console.database.reading() as db:
        part = await letters(db, wanted, None, MOST)
    return [(one.task_id, one.died_at) for one in part.rows], part.floor is not None


async def requeue(console: Console, chosen: Sequence[Letter], asked: int, *, more: bool) -> Changed:
    """Give dead letters another life; what lives again by now is left alone. Raises `BrokerError`;
    those before it have one already."""
    broker = (await console.queue.client()).broker
    changed = 0
    for start in range(0, len(chosen), _CHUNK):
        part = dict(chosen[start : start + _CHUNK])
        done = await broker.requeue(list(part), dead_only=True)
        changed += len(done)
        if done:
            async with console.database.writing() as db:
                await requeued(db, [(task_id, part[task_id]) for task_id in done])
    return Changed(changed=changed, unchanged=asked - changed, more=more)


async def discard(console: Console, chosen: Sequence[Letter], asked: int, *, more: bool) -> Changed:
    """Delete dead letters in the queue for good; the history keeps what happened. Raises
    `BrokerError`; those before it are gone already."""
    broker = (await console.queue.client()).broker
    changed = 0
    for start in range(0, len(chosen), _CHUNK):
        part = [task_id for task_id, _ in chosen[start : start + _CHUNK]]
        done = await broker.discard(part)
        changed += len(done)
        if done:
            async with console.database.writing() as db:
                await bury(db, done)
    return Changed(changed=changed, unchanged=asked - changed, more=more)
