"""Workers that have lived, looked up."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.history.models import Worker
from conveyor_console.kit.filters import Field, Kind, conditions
from conveyor_console.kit.grammar import FREE, BadQuery
from conveyor_console.kit.pages import Page, bad_query
from conveyor_console.kit.selecting import Selecting
from conveyor_console.kit.sorting import behind, cut, number_at, order_of, place_in
from conveyor_console.workers.schemas import WorkerSeen

_LATEST = order_of("-seen")
FIELDS = {
    "id": Field(Kind.TEXT, "id"),
    "host": Field(Kind.TEXT, "host"),
    "version": Field(Kind.TEXT, "code_version"),
    "age": Field(Kind.AGE, "started_at"),
    "started": Field(Kind.MOMENT, "started_at"),
    "seen": Field(Kind.MOMENT, "seen_at"),
    FREE: Field(Kind.WORDS, "text"),
}


def _column(attribute: str) -> ColumnElement[Any]:
    if attribute == "text":
        return Worker.id + literal(" ") + Worker.host
    found: ColumnElement[Any] = getattr(Worker, attribute)
    return found


async def seen(
    db: AsyncSession, q: str, cursor: str | None, limit: int, now: float
) -> Page[WorkerSeen]:
    """Return a page of those that fit, those seen last first. Raises `Problem` 422."""
    try:
        wanted = conditions(q, FIELDS, now)
    except BadQuery as exc:
        raise bad_query(exc) from None
    place = place_in(_LATEST, cursor)
    at = None if place is None else (number_at(place), place.id)
    statement = behind(select(Worker), _LATEST, (Worker.seen_at, Worker.id), at)
    is_sqlite = db.get_bind().dialect.name == "sqlite"
    fits = Selecting(_column, is_sqlite=is_sqlite).clause(wanted)
    found = (await db.scalars(statement.where(fits).limit(limit + 1))).all()
    rows, more = cut(found, limit, _LATEST, lambda one: (repr(one.seen_at), one.id))
    return Page(items=[WorkerSeen.of(one) for one in rows], next_cursor=more)
