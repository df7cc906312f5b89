"""The audit log, looked up. A page reads a window of it at most, however long it is: what an index
cannot answer is looked for among the entries that one can name, and the answer says how far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, func, null, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.audit.models import AuditEntry
from conveyor_console.audit_log.searching import INDEXED, SEARCH
from conveyor_console.kit.filters import Condition
from conveyor_console.kit.searching import FIRST, LAST
from conveyor_console.kit.sorting import Order, Place, behind

WINDOW = 10_000
"""Entries that are looked at for one page."""
SKEW = timedelta(minutes=1)
"""An entry's id and its moment are made one after the other; nothing is ever this long between."""
_id = AuditEntry.id
_BELOW, _ABOVE = "", "g"
"""Less and more than any id."""


@dataclass(frozen=True, slots=True)
class Part:
    """Entries in order. `floor` is the id that the next page begins behind; None: there is no more.
    `cut`: there were fewer than asked in the window."""

    rows: Sequence[AuditEntry]
    floor: str | None = None
    cut: bool = False


async def entries(
    db: AsyncSession, wanted: Sequence[Condition], order: Order, place: Place | None, limit: int
) -> Part:
    """Return entries in order of when they were written, from a place on."""
    exact = [one for name in INDEXED for one in wanted if one.attribute == name and _is_exact(one)]
    rest = [one for one in wanted if one not in exact[:1]]
    there = SEARCH.clause(db, exact[:1])
    for limits in await _between(db, wanted):
        there = and_(there, limits)
    fits = SEARCH.clause(db, rest, _hidden)
    end = await _end(db, there, order, place) if rest else None
    found = behind(select(AuditEntry).where(there, fits), order, (_id, _id), place)
    rows = (await db.scalars(_until(found, order, end).limit(limit + 1))).all()
    if len(rows) > limit:
        return Part(rows[:limit], rows[limit - 1].id)
    return Part(rows, end, cut=end is not None)


def _is_exact(one: Condition) -> bool:
    return one.op == "is" and len(one.values) == 1 and not (one.negated or one.patterns)


def _hidden(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the same, so that no other index is taken than the one that was chosen."""
    return func.coalesce(column, null()) if isinstance(column.type, String) else column


async def _between(db: AsyncSession, wanted: Sequence[Condition]) -> list[ColumnElement[bool]]:
    """Return between which ids lies what was written between two moments: ids have an order that an
    index and the list have in common."""
    found: list[ColumnElement[bool]] = []
    for one in wanted:
        if one.attribute != "at" or one.negated:
            continue
        at, is_from = AuditEntry.at, one.op.startswith(">")
        edge = _shifted(one.values[0], -SKEW if is_from else SKEW)
        nearest = select(_id).where(at >= edge if is_from else at <= edge)
        nearest = nearest.order_by(at if is_from else at.desc()).limit(1)
        edge_id = await db.scalar(nearest)
        if is_from:
            found.append(_id >= (_ABOVE if edge_id is None else edge_id))
        else:
            found.append(_id <= (_BELOW if edge_id is None else edge_id))
    return found


def _shifted(at: datetime, by: timedelta) -> datetime:
    try:
        return at + by
    except OverflowError:
        return LAST if by > timedelta() else FIRST


async def _end(
    db: AsyncSession, there: ColumnElement[bool], order: Order, place: Place | None
) -> str | None:
    """Return the id at which the window ends, None when it is wider than what there is."""
    last = behind(select(_id).where(there), order, (_id, _id), place).offset(WINDOW - 1).limit(1)
    found: str | None = await db.scalar(last)
    return found


def _until(statement: Select[Any], order: Order, end: str | None) -> Select[Any]:
    if end is None:
        return statement
    return statement.where(_id >= end if order.descending else _id <= end)


async def unsealed(db: AsyncSession) -> int:
    """Count what is not in the chain yet."""
    count = await db.scalar(
        select(func.count()).select_from(AuditEntry).where(AuditEntry.seq.is_(None))
    )
    return count or 0


async def hash_at(db: AsyncSession, seq: int) -> str | None:
    """Return the hash at a place."""
    found: str | None = await db.scalar(select(AuditEntry.hash).where(AuditEntry.seq == seq))
    return found
