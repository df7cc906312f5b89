"""The filter grammar over a table, or a list, that is small enough to be looked through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.kit.filters import Condition, Field, Kind, conditions, matches
from conveyor_console.kit.grammar import BadQuery
from conveyor_console.kit.pages import bad_query
from conveyor_console.kit.selecting import Selecting

T = TypeVar("T")
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""Moments that no database lacks."""


def fitting(
    rows: Iterable[T], q: str, fields: Mapping[str, Field], get: Callable[[T, str], Any], now: float
) -> list[T]:
    """Return the rows that fit a filter; `now` (epoch seconds) is for ages. Raises `Problem`
    422."""
    try:
        wanted = conditions(q, fields, now)
    except BadQuery as exc:
        raise bad_query(exc) from None
    return [row for row in rows if matches(row, wanted, get)]


@dataclass(frozen=True, slots=True)
class Searching:
    """What a table can be filtered by: fields, and what holds the attribute of each."""

    fields: Mapping[str, Field]
    columns: Mapping[str, ColumnElement[Any]]

    def narrow(self, db: AsyncSession, rows: Select[Any], q: str, now: datetime) -> Select[Any]:
        """Leave out what does not fit a filter; `now` is for ages. Raises `Problem` 422."""
        wanted = self.read(q, now)
        return rows.where(self.clause(db, wanted)) if wanted else rows

    def read(self, q: str, now: datetime) -> list[Condition]:
        """Read a filter; `now` is for ages. Raises `Problem` 422."""
        try:
            wanted = conditions(q, self.fields, now.timestamp())
        except BadQuery as exc:
            raise bad_query(exc) from None
        return [self._of_table(one) for one in wanted]

    def clause(
        self,
        db: AsyncSession,
        wanted: Iterable[Condition],
        seen: Callable[[ColumnElement[Any]], ColumnElement[Any]] = lambda column: column,
    ) -> ColumnElement[bool]:
        """Return conditions, all of which must hold, as one clause; `seen` says what it names
        instead of a column."""
        is_sqlite = db.get_bind().dialect.name == "sqlite"
        select = Selecting(lambda name: seen(self.columns[name]), is_sqlite=is_sqlite)
        return select.clause(wanted)

    def _of_table(self, one: Condition) -> Condition:
        """The console's own tables hold moments, not epoch seconds."""
        times = {
            field.attribute
            for field in self.fields.values()
            if field.kind in {Kind.MOMENT, Kind.AGE}
        }
        if one.attribute not in times:
            return one
        return replace(one, values=tuple(map(_moment, one.values)))


def _moment(at: float) -> datetime:
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return LAST if at > 0 else FIRST
