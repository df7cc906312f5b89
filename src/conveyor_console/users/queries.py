"""Users and invitations, looked up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.auth.models import Invitation, Role, User
from conveyor_console.kit.sorting import Order, Place, behind


async def users(
    db: AsyncSession,
    *,
    role: Role | None,
    disabled: bool | None,
    text: str | None,
    order: Order,
    place: Place | None,
    limit: int,
) -> Sequence[User]:
    """Return users in order of `created` or `email`, from a place on."""
    columns = (User.email if order.key == "email" else User.id, User.id)
    statement = behind(select(User), order, columns, place).limit(limit)
    if role is not None:
        statement = statement.where(User.role == role.value)
    if disabled is not None:
        wanted = User.disabled_at.is_not(None) if disabled else User.disabled_at.is_(None)
        statement = statement.where(wanted)
    if text:
        columns = (User.email, User.name)
        found = (func.lower(one).contains(text.lower(), autoescape=True) for one in columns)
        statement = statement.where(or_(*found))
    return (await db.scalars(statement)).all()


async def administrators(db: AsyncSession) -> int:
    """Count those who can still manage users."""
    count = await db.scalar(
        select(func.count())
        .select_from(User)
        .where(User.role == Role.ADMIN.value, User.disabled_at.is_(None))
    )
    return count or 0


async def invitations(
    db: AsyncSession, *, open_at: datetime | None, before: tuple[datetime, str] | None, limit: int
) -> Sequence[Invitation]:
    """Return invitations, the newest first; only those still open at a moment, if one is given."""
    order = (Invitation.created_at.desc(), Invitation.digest.desc())
    statement = select(Invitation).order_by(*order).limit(limit)
    if open_at is not None:
        statement = statement.where(Invitation.used_at.is_(None), Invitation.expires_at > open_at)
    if before is not None:
        place = tuple_(Invitation.created_at, Invitation.digest)
        statement = statement.where(place < tuple_(*before))
    return (await db.scalars(statement)).all()
