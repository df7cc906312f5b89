"""The audit log, looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.audit.models import AuditEntry, Outcome
from conveyor_console.kit.sorting import Order, Place, behind


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries."""

    user_id: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: Outcome | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def entries(
    db: AsyncSession, wanted: Wanted, order: Order, place: Place | None, limit: int
) -> Sequence[AuditEntry]:
    """Return entries in order of when they were written, from a place on."""
    columns = (AuditEntry.id, AuditEntry.id)
    statement = behind(select(AuditEntry), order, columns, place).limit(limit)
    for name in ("user_id", "target", "outcome", "request_id"):
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(getattr(AuditEntry, name) == value)
    if wanted.action is not None:
        # `users.*`: everything of a noun.
        noun, star = wanted.action.removesuffix("*"), wanted.action.endswith("*")
        column = AuditEntry.action
        match = column.startswith(noun, autoescape=True) if star else column == wanted.action
        statement = statement.where(match)
    if wanted.since is not None:
        statement = statement.where(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(AuditEntry.at < wanted.until)
    return (await db.scalars(statement)).all()


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
