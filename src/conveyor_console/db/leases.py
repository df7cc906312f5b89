"""Who does something that one process does for all: a row that is held for a while.

It only saves work. What must not happen twice is seen to by constraints, never by a lease.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import String, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Moment


class LeaseRow(Base):
    """A role and who has it."""

    __tablename__ = f"{PREFIX}lease"

    role: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str] = mapped_column(String(36))
    expires_at: Mapped[datetime] = mapped_column(Moment)


async def hold(
    db: AsyncSession, role: str, holder: str, now: datetime, seconds: float = 5.0
) -> bool:
    """Take or renew a role for some seconds; False while another holds it. Until this transaction
    ends nobody else can take it."""
    insert = postgresql.insert if db.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(LeaseRow).values(
        role=role, holder=holder, expires_at=now + timedelta(seconds=seconds)
    )
    taken = statement.on_conflict_do_update(
        index_elements=[LeaseRow.role],
        set_={"holder": statement.excluded.holder, "expires_at": statement.excluded.expires_at},
        where=or_(LeaseRow.holder == holder, LeaseRow.expires_at <= now),
    ).returning(LeaseRow.role)
    return (await db.execute(taken)).first() is not None
