"""Requests that were made under an `Idempotency-Key`, and what was answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import LargeBinary, String, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Id, Moment

KEPT = timedelta(hours=24)
HELD = timedelta(seconds=60)
"""How long a request may take before another may try again under its key: its process died."""


class IdempotencyRow(Base):
    """A request under a key."""

    __tablename__ = f"{PREFIX}idempotency"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Stands for who asked, which route, and the key."""
    request: Mapped[str] = mapped_column(String(64))
    """Stands for what was asked."""
    holder: Mapped[str] = mapped_column(Id)
    held_until: Mapped[datetime] = mapped_column(Moment)
    status: Mapped[int | None]
    """Of the answer; None while there is none."""
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Sealed: an answer may hold a secret that is shown once."""
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make a request under its key, until `held_until`."""

    id: str
    holder: str


async def claim(
    db: AsyncSession, claimed: Claim, request: str, now: datetime
) -> IdempotencyRow | datetime:
    """Claim a key: since when there are tries when it is ours now, else the row of who was there
    before."""
    await db.execute(delete(IdempotencyRow).where(IdempotencyRow.expires_at <= now))
    insert = postgresql.insert if db.get_bind().dialect.name == "postgresql" else sqlite.insert
    ours = {"holder": claimed.holder, "held_until": now + HELD}
    new = insert(IdempotencyRow).values(
        id=claimed.id, request=request, expires_at=now + KEPT, **ours
    )
    made = new.on_conflict_do_nothing().returning(IdempotencyRow.id)
    if (await db.execute(made)).first() is not None:
        return now
    found = await db.get(IdempotencyRow, claimed.id, with_for_update=True)
    if found is None:  # released between the two statements: as good as never there
        return await claim(db, claimed, request, now)
    if found.request == request and found.status is None and found.held_until <= now:
        for name, value in ours.items():
            setattr(found, name, value)
        return found.expires_at - KEPT
    return found


async def answered(db: AsyncSession, claimed: Claim, status: int, answer: bytes) -> bool:
    """Keep an answer, in the transaction of what it tells of; False when the claim was lost."""
    kept = await db.execute(
        update(IdempotencyRow)
        .where(IdempotencyRow.id == claimed.id, IdempotencyRow.holder == claimed.holder)
        .where(IdempotencyRow.status.is_(None))
        .values(status=status, answer=answer)
        .returning(IdempotencyRow.id)
    )
    return kept.first() is not None


async def release(db: AsyncSession, claimed: Claim) -> None:
    """Give a key back whose request had no effect."""
    await db.execute(
        delete(IdempotencyRow)
        .where(IdempotencyRow.id == claimed.id, IdempotencyRow.holder == claimed.holder)
        .where(IdempotencyRow.status.is_(None))
    )


async def leave(db: AsyncSession, claimed: Claim, now: datetime) -> None:
    """Leave a key to a repeat of its request, of which nobody knows what effect it had."""
    await db.execute(
        update(IdempotencyRow)
        .where(IdempotencyRow.id == claimed.id, IdempotencyRow.holder == claimed.holder)
        .where(IdempotencyRow.status.is_(None))
        .values(held_until=now)
    )
