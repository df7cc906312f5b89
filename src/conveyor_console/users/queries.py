"""Users and invitations, looked up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import case, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.auth.models import Invitation, Role, User
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.searching import Searching
from conveyor_console.kit.sorting import Order, Place, behind

_blank = literal(" ")
SEARCH = Searching(
    fields={
        "email": Field(Kind.TEXT, "email"),
        "name": Field(Kind.TEXT, "name"),
        "role": Field(Kind.CHOICE, "role", tuple(role.value for role in Role)),
        "disabled": Field(Kind.CHOICE, "disabled", ("yes", "no")),
        "age": Field(Kind.AGE, "created_at"),
        "created": Field(Kind.MOMENT, "created_at"),
        "login": Field(Kind.MOMENT, "last_login_at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    columns={
        "email": User.email.expression,
        "name": User.name.expression,
        "role": User.role.expression,
        "disabled": case((User.disabled_at.is_(None), "no"), else_="yes"),
        "created_at": User.created_at.expression,
        "last_login_at": User.last_login_at.expression,
        "text": User.email + _blank + User.name,
    },
)

_invited_by = select(User.email).where(User.id == Invitation.invited_by).scalar_subquery()
INVITATIONS = Searching(
    fields={
        "email": Field(Kind.TEXT, "email"),
        "role": Field(Kind.CHOICE, "role", tuple(role.value for role in Role)),
        "by": Field(Kind.TEXT, "invited_by"),
        "age": Field(Kind.AGE, "created_at"),
        "created": Field(Kind.MOMENT, "created_at"),
        "expires": Field(Kind.MOMENT, "expires_at"),
        "used": Field(Kind.MOMENT, "used_at"),
        FREE: Field(Kind.WORDS, "email"),
    },
    columns={
        "email": Invitation.email.expression,
        "role": Invitation.role.expression,
        "invited_by": _invited_by,
        "created_at": Invitation.created_at.expression,
        "expires_at": Invitation.expires_at.expression,
        "used_at": Invitation.used_at.expression,
    },
)


async def users(
    db: AsyncSession,
    *,
    role: Role | None,
    disabled: bool | None,
    q: str,
    now: datetime,
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
    statement = SEARCH.narrow(db, statement, q, now)
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
    db: AsyncSession,
    *,
    open_at: datetime | None,
    q: str,
    now: datetime,
    before: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Invitation]:
    """Return invitations, the newest first; only those still open at a moment, if one is given."""
    order = (Invitation.created_at.desc(), Invitation.digest.desc())
    statement = select(Invitation).order_by(*order).limit(limit)
    statement = INVITATIONS.narrow(db, statement, q, now)
    if open_at is not None:
        statement = statement.where(Invitation.used_at.is_(None), Invitation.expires_at > open_at)
    if before is not None:
        place = tuple_(Invitation.created_at, Invitation.digest)
        statement = statement.where(place < tuple_(*before))
    return (await db.scalars(statement)).all()
