"""Changes of users. They take turns: who may do what is never decided on what is old."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.auth import sessions
from conveyor_console.auth.models import User
from conveyor_console.db import epoch
from conveyor_console.kit.etags import must_match
from conveyor_console.kit.problems import Problem
from conveyor_console.users.queries import administrators
from conveyor_console.users.schemas import UserChange


async def for_change(db: AsyncSession, user_id: str, if_match: str | None, *, needed: bool) -> User:
    """Return a user to change. Raises `Problem` 404, 412 and 428."""
    # Before anything is read: the row of the epoch is the lock that two changes meet at, so the
    # second one counts the administrators that the first one left.
    await epoch.advance(db)
    user = await db.get(User, user_id)
    if user is None:
        raise Problem(404, "there is no such user")
    must_match(if_match, user.version, needed=needed)
    return user


async def change(db: AsyncSession, user: User, wanted: UserChange, now: datetime) -> Any:
    """Change a user; returns what was before and what is after, of what changed. Raises `Problem`
    409 for the last administrator."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if wanted.name is not None and wanted.name != user.name:
        before["name"], after["name"] = user.name, wanted.name
        user.name = wanted.name
    if wanted.role is not None and wanted.role != user.role:
        before["role"], after["role"] = user.role, wanted.role.value
        user.role = wanted.role.value
    disabled = user.disabled_at is not None
    if wanted.disabled is not None and wanted.disabled != disabled:
        before["disabled"], after["disabled"] = disabled, wanted.disabled
        user.disabled_at = now if wanted.disabled else None
        if wanted.disabled:
            await sessions.end(db, "disabled", now, user_id=user.id)
    if after:
        user.updated_at = now
    await db.flush()
    await somebody_is_left(db)
    return before, after


async def somebody_is_left(db: AsyncSession) -> None:
    """Raise `Problem` 409 when nobody could manage users any more."""
    if await administrators(db) == 0:
        raise Problem(409, "this is the last active administrator: make another one first")
