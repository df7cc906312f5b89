"""Dead letters by filter: as their list and as bulk actions see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Double, String, cast, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from conveyor_console.history.models import DeadLetter
from conveyor_console.history.ordering import Source
from conveyor_console.history.queries import WINDOW, Part
from conveyor_console.kit.filters import Condition, Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.selecting import Selecting

FIELDS: Mapping[str, Field] = {
    "state": Field(Kind.CHOICE, "state", ("failed", "cancelled")),
    "task": Field(Kind.TEXT, "name"),
    "queue": Field(Kind.TEXT, "queue"),
    "id": Field(Kind.TEXT, "task_id"),
    "fingerprint": Field(Kind.TEXT, "fingerprint"),
    "error": Field(Kind.WORDS, "all_error"),
    "reason": Field(Kind.WORDS, "reason"),
    "attempts": Field(Kind.NUMBER, "attempts"),
    "age": Field(Kind.AGE, "died_at"),
    "died": Field(Kind.MOMENT, "died_at"),
    FREE: Field(Kind.WORDS, "text"),
}


def column(attribute: str, of: Any = DeadLetter) -> ColumnElement[Any]:
    """Return what holds an attribute in the table of dead letters, or an alias of it."""
    blank = literal(" ")
    if attribute == "all_error":
        return cast(of.error_type + blank + func.coalesce(of.error, ""), String)
    if attribute == "text":
        error = func.coalesce(column("all_error", of), "")
        return cast(of.name + blank + of.task_id + blank + error, String)
    found: ColumnElement[Any] = getattr(of, attribute)
    return cast(found, Double) if attribute == "attempts" else found


LETTERS = Source(DeadLetter, "task_id", {"id": "task_id", "died": "died_at"}, column)


async def letters(
    session: AsyncSession, wanted: Sequence[Condition], before: str | None, limit: int
) -> Part:
    """Return up to `limit` dead letters that fit, below the id `before`, the newest ids first."""
    inner = select(DeadLetter.__table__).order_by(DeadLetter.task_id.desc())
    prints = [one for one in wanted if _names_prints(one)]
    rest = [one for one in wanted if one not in prints]
    for one in prints:
        inner = inner.where(DeadLetter.fingerprint.in_(one.values))
    if before is not None:
        inner = inner.where(DeadLetter.task_id < before)
    window = inner.limit(WINDOW if rest else limit).subquery("newest")
    row = aliased(DeadLetter, window)
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    fits = Selecting(lambda name: column(name, row), is_sqlite=is_sqlite).clause(rest)
    statement = select(row).where(fits).order_by(row.task_id.desc()).limit(limit)
    rows = (await session.scalars(statement)).all()
    if len(rows) == limit:
        return Part(rows, rows[-1].task_id)
    if not rest:
        return Part(rows)
    read, lowest = (await session.execute(select(func.count(), func.min(window.c.task_id)))).one()
    return Part(rows, lowest, cut=True) if read == WINDOW else Part(rows)


def _names_prints(one: Condition) -> bool:
    return one.attribute == "fingerprint" and not (one.negated or one.patterns)
