"""What is old goes, in chunks, so that nobody waits for it; and dead letters that the queue no
longer has leave the list of those that can be requeued."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import Inspector
from conveyor_console.db.engine import Database
from conveyor_console.history.models import (
    DeadLetter,
    DueTask,
    Failure,
    Histogram,
    Rollup,
    Task,
    Worker,
)
from conveyor_console.history.writing import bury

CHUNK = 1_000
DAY = 86_400.0


async def prune(database: Database, now: float, days: int, most: int = CHUNK) -> int:
    """Delete up to `most` tasks that ended more than `days` before `now` (epoch seconds), with all
    that belongs to them, and the sums of that time; returns how many tasks that were."""
    before = now - days * DAY
    async with database.writing() as session:
        old = select(Task.id).where(Task.finished_at < before).limit(most)
        ids = (await session.scalars(old)).all()
        await _delete(session, ids)
        if len(ids) < most:
            await _prune_sums(session, before)
    return len(ids)


async def _delete(session: AsyncSession, ids: Sequence[str]) -> None:
    for start in range(0, len(ids), 500):
        await session.execute(delete(Task).where(Task.id.in_(ids[start : start + 500])))


async def _prune_sums(session: AsyncSession, before: float) -> None:
    for table in (Rollup, Histogram):
        old = table.minute < int(before // 60)
        await session.execute(delete(table).where(table.span.in_((1, 60)), old))
    await session.execute(delete(Worker).where(Worker.seen_at < before))
    await session.execute(delete(DueTask).where(DueTask.at < before))
    await session.execute(delete(Failure).where(Failure.hour < int(before // 3_600)))


async def verify_letters(
    database: Database, inspector: Inspector, after: str, most: int = CHUNK
) -> str | None:
    """Look up to `most` dead letters with ids above `after` up in the queue, and let those go that
    are none any more: discarded, pruned, or lost with their store. Returns the last id that was
    looked at, None after the last one of all."""
    async with database.reading() as session:
        letters = select(DeadLetter.task_id, DeadLetter.queue, DeadLetter.died_at)
        page = letters.where(DeadLetter.task_id > after).order_by(DeadLetter.task_id).limit(most)
        rows = (await session.execute(page)).all()
    homes = {task_id: queue for task_id, queue, _ in rows}
    found = await inspector.finished(list(homes), homes) if homes else []
    still = {one.info.id: one.info.finished_at for one in found}
    # One that died again since is about to be written anew.
    gone = [task_id for task_id, _, died_at in rows if still.get(task_id) != died_at]
    if gone:
        async with database.writing() as session:
            await bury(session, gone)
    return rows[-1][0] if len(rows) == most else None
