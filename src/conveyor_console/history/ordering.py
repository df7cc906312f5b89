"""The past in orders that an index has: a page reads a window of it at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.history.fields import hidden
from conveyor_console.history.models import Task
from conveyor_console.history.queries import ALL, PLAN_ANEW, STEPS, Part
from conveyor_console.kit.filters import Condition
from conveyor_console.kit.selecting import Selecting
from conveyor_console.kit.sorting import Order, Place, behind, cursor_in, number_at, place_in

Columns = tuple[Any, Any]
"""What rows are ordered by, and their id: both may be the id."""
Spot = tuple[Any, str]
"""Where a row is: its value and its id."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table, its columns of each order (of which an index knows), and how attributes are read."""

    model: Any
    id: str
    keys: dict[str, str]
    """Of numbers, or the id itself."""
    column: Callable[..., ColumnElement[Any]]
    """Of an attribute, `of` the table or an alias of it."""


FINISHED = Source(Task, "id", {"finished": "finished_at"}, hidden)


async def in_order(
    session: AsyncSession,
    source: Source,
    wanted: Sequence[Condition],
    order: Order,
    *,
    cursor: str | None,
    limit: int,
    late: Callable[[], bool] = lambda: False,
) -> Part:
    """Return up to `limit` rows that fit from a cursor on; the floor is the next cursor. They are
    looked at a few at a time; once `late` says so, what was found by then is the answer. Raises
    `Problem` 422."""
    key = source.keys[order.key]
    columns = (getattr(source.model, key), getattr(source.model, source.id))
    place = _read(place_in(order, cursor), by_id=key == source.id)
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    if not is_sqlite:
        await session.execute(PLAN_ANEW)
    fits = Selecting(partial(source.column, of=source.model), is_sqlite=is_sqlite).clause(wanted)
    fitting = select(ALL).select_from(source.model).where(columns[0].is_not(None), fits)
    found: list[Any] = []
    for size in STEPS:
        end = await _end(session, order, columns, place, size) if wanted else None
        rows = behind(fitting, order, columns, place).limit(limit - len(found))
        found += await session.execute(rows if end is None else _until(rows, order, columns, end))
        if len(found) == limit:
            last = found[-1]
            return Part(found, _cursor(order, getattr(last, key), getattr(last, source.id)))
        if end is None:
            return Part(found)
        place = end
        if late():
            break
    return Part(found, None if place is None else _cursor(order, *place), cut=True)


async def _end(
    session: AsyncSession, order: Order, columns: Columns, place: Spot | None, size: int
) -> Spot | None:
    """Return where the `size`th row behind a place is, None when there are not so many."""
    there = select(*columns).where(columns[0].is_not(None))
    nth = behind(there, order, columns, place).offset(size - 1).limit(1)
    row = (await session.execute(nth)).first()
    return None if row is None else (row[0], row[-1])


def _until(statement: Select[Any], order: Order, columns: Columns, end: Spot) -> Select[Any]:
    """Leave out what is further than `end`."""
    (at, row_id), (value, last) = columns, end
    down = order.descending
    level = at >= value if down else at <= value
    before = at > value if down else at < value
    same = and_(at == value, row_id >= last if down else row_id <= last)
    return statement.where(level, or_(before, same))


def _read(place: Place | None, *, by_id: bool) -> Spot | None:
    if place is None:
        return None
    return (place.id if by_id else number_at(place)), place.id


def _cursor(order: Order, value: Any, row_id: str) -> str:
    return cursor_in(order, Place(str(value), row_id))
