"""The past in orders that an index has: a page reads a window of it at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from conveyor_console.history.fields import column
from conveyor_console.history.models import Task
from conveyor_console.history.queries import WINDOW, Part
from conveyor_console.kit.filters import Condition
from conveyor_console.kit.selecting import Selecting
from conveyor_console.kit.sorting import Order, Place, behind, cursor_in, number_at, place_in


@dataclass(frozen=True, slots=True)
class Source:
    """A table, its columns of each order (of which an index knows), and how attributes are read."""

    model: Any
    id: str
    keys: dict[str, str]
    """Of numbers, or the id itself."""
    column: Callable[[str, Any], ColumnElement[Any]]


FINISHED = Source(Task, "id", {"finished": "finished_at"}, column)


async def in_order(
    session: AsyncSession,
    source: Source,
    wanted: Sequence[Condition],
    order: Order,
    *,
    cursor: str | None,
    limit: int,
) -> Part:
    """Return up to `limit` rows that fit from a cursor on; the floor is the next cursor. Raises
    `Problem` 422."""
    key = source.keys[order.key]
    by_id = key == source.id
    model = source.model
    columns = (getattr(model, key), getattr(model, source.id))
    inner = select(model.__table__).where(columns[0].is_not(None))
    place = _read(place_in(order, cursor), by_id=by_id)
    window = behind(inner, order, columns, place).limit(WINDOW if wanted else limit)
    row = aliased(model, window.subquery("window"))
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    fits = Selecting(lambda name: source.column(name, row), is_sqlite=is_sqlite).clause(wanted)
    mine = (getattr(row, key), getattr(row, source.id))
    statement = behind(select(row).where(fits), order, mine, None).limit(limit)
    rows = (await session.scalars(statement)).all()
    if len(rows) == limit:
        last = rows[-1]
        return Part(rows, _cursor(order, getattr(last, key), getattr(last, source.id)))
    if not wanted:
        return Part(rows)
    read = await session.scalar(select(func.count()).select_from(window.subquery()))
    if read != WINDOW:
        return Part(rows)
    upside_down = order._replace(descending=not order.descending)
    end = behind(select(*mine), upside_down, mine, None).limit(1)
    value, last_id = (await session.execute(end)).one()
    return Part(rows, _cursor(order, value, last_id), cut=True)


def _read(place: Place | None, *, by_id: bool) -> tuple[Any, str] | None:
    if place is None:
        return None
    return (place.id if by_id else number_at(place)), place.id


def _cursor(order: Order, value: Any, row_id: str) -> str:
    return cursor_in(order, Place(str(value), row_id))
