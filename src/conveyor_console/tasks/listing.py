"""One list of living and finished tasks: two streams by id, merged under one cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conveyor_console.console import Console
from conveyor_console.history.living import living
from conveyor_console.history.ordering import FINISHED, in_order
from conveyor_console.history.queries import Part, finished
from conveyor_console.kit.filters import Condition
from conveyor_console.kit.sorting import Order
from conveyor_console.tasks.schemas import TaskPage
from conveyor_console.tasks.showing import of_history, of_queue

_PATIENCE = 0.015
"""Seconds of looking through the history after which a page is what was found by then; and of
looking through what lives."""


async def page(
    console: Console, wanted: Sequence[Condition], before: str | None, limit: int
) -> TaskPage:
    """Return a page of the tasks that fit, the newest first."""
    # The living first: a task that ends between the two questions is seen twice, not never.
    now = await living(console.queue, wanted, before, limit, late=_late(console))
    async with console.database.reading() as db:
        past = await finished(db, wanted, before, limit, _late(console))
    ended = {task.id: of_history(task) for task in past.rows}
    alive = {info.id: of_queue(info) for info in now.rows if info.id not in ended}
    rows = {**ended, **alive}
    floor = _highest(now, past)
    ids = sorted((key for key in rows if floor is None or key >= floor), reverse=True)
    shown = ids[:limit]
    cursor = shown[-1] if len(ids) > limit else floor
    return TaskPage(
        items=[rows[key] for key in shown],
        next_cursor=cursor,
        truncated=any(part.cut and part.floor == cursor for part in (now, past)),
    )


async def by_end(
    console: Console, wanted: Sequence[Condition], order: Order, cursor: str | None, limit: int
) -> TaskPage:
    """Return a page of the finished tasks that fit, in order of when they ended."""
    async with console.database.reading() as db:
        past = await in_order(
            db, FINISHED, wanted, order, cursor=cursor, limit=limit, late=_late(console)
        )
    items = [of_history(task) for task in past.rows]
    return TaskPage(items=items, next_cursor=past.floor, truncated=past.cut)


async def oldest_living(
    console: Console, wanted: Sequence[Condition], after: str | None, limit: int
) -> TaskPage:
    """Return a page of the tasks that fit and have not ended, the oldest first."""
    part = await living(console.queue, wanted, after, limit, oldest_first=True, late=_late(console))
    items = [of_queue(info) for info in part.rows]
    return TaskPage(items=items, next_cursor=part.floor, truncated=part.cut)


def _late(console: Console) -> Callable[[], bool]:
    """From now on: whether the patience is over."""
    end = console.clock.monotonic() + _PATIENCE
    return lambda: console.clock.monotonic() >= end


def _highest(*parts: Part) -> str | None:
    """Return down to where all parts say all there is."""
    return max((part.floor for part in parts if part.floor is not None), default=None)
