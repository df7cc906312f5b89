"""Sign-ins and their refresh tokens: rotated at every use, and a family dies of a stolen one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value

from conveyor_console.auth.models import RefreshToken, Session, User
from conveyor_console.auth.tokens import BadToken, Tokens, digest_of
from conveyor_console.db import epoch

GRACE = timedelta(seconds=10)
"""Two tabs may refresh with the same token so far apart: both get the same successor."""


_MOST_AT_ONCE = 500
"""Rows that one sign-in tidies away."""


class Origin(NamedTuple):
    """Where a request comes from."""

    ip: str
    agent: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a sign-in or a refresh gives."""

    user: User
    session_id: str
    access: str
    refresh: str
    expires_at: datetime


class ReusedToken(BadToken):
    """A refresh token came again, long after its use: somebody has a copy."""

    def __init__(self, session_id: str, user_id: str) -> None:
        super().__init__("this session was ended: its token was used twice")
        self.session_id = session_id
        self.user_id = user_id


class Sessions:
    """Begins, goes on with and ends sessions, in the database session it is given."""

    def __init__(self, tokens: Tokens, idle_seconds: int, longest_seconds: int) -> None:
        self._tokens = tokens
        self._idle = timedelta(seconds=idle_seconds)
        self._longest = timedelta(seconds=longest_seconds)

    async def begin(
        self, db: AsyncSession, user: User, session_id: str, origin: Origin, now: datetime
    ) -> Grant:
        """Sign a user in."""
        expires = now + self._longest
        row = Session(
            id=session_id,
            user_id=user.id,
            created_at=now,
            last_used_at=now,
            expires_at=expires,
            ip=origin.ip[:45],
            agent=origin.agent[:300],
        )
        refresh = self._tokens.first_refresh()
        db.add(row)
        await db.flush()
        db.add(self._row(refresh, session_id, now, expires))
        # Not through the mapper: two that sign in at the same moment do not edit the user, and must
        # not fail as if they did.
        users = User.__table__
        await (await db.connection()).execute(
            update(users).where(users.c.id == user.id).values(last_login_at=now)  # type: ignore[arg-type]
        )
        set_committed_value(user, "last_login_at", now)
        await _forget_expired(db, user.id, now)
        return self._grant(user, session_id, refresh, now, expires)

    async def go_on(self, db: AsyncSession, token: str, now: datetime) -> Grant:
        """Exchange a refresh token for its successor. Raises `BadToken`, and `ReusedToken` for one
        that was used long ago; its caller then ends the session (`end`) in a transaction of its
        own."""
        # The session before its token, as who deletes their user does.
        mine = RefreshToken.digest == digest_of(token)
        family = select(RefreshToken.session_id).where(mine).scalar_subquery()
        await db.execute(select(Session.id).where(Session.id == family).with_for_update())
        found = (
            await db.execute(
                select(RefreshToken, Session, User)
                .join(Session, Session.id == RefreshToken.session_id)
                .join(User, User.id == Session.user_id)
                .where(mine)
                .with_for_update(of=RefreshToken)
            )
        ).one_or_none()
        if found is None:
            raise BadToken("no such session: sign in again")
        old, session, user = found
        if session.revoked_at is not None or user.disabled_at is not None:
            raise BadToken("the session has ended: sign in again")
        if now >= min(session.expires_at, old.expires_at):
            raise BadToken("the session has expired: sign in again")
        successor = self._tokens.next_refresh(token)
        if old.used_at is None:
            old.used_at = now
            db.add(self._row(successor, session.id, now, session.expires_at))
        elif now - old.used_at > GRACE:
            raise ReusedToken(session.id, user.id)
        session.last_used_at = now
        return self._grant(user, session.id, successor, now, session.expires_at)

    def _row(
        self, token: str, session_id: str, now: datetime, session_expires: datetime
    ) -> RefreshToken:
        return RefreshToken(
            digest=digest_of(token),
            session_id=session_id,
            issued_at=now,
            expires_at=min(session_expires, now + self._idle),
        )

    def _grant(
        self, user: User, session_id: str, refresh: str, now: datetime, expires: datetime
    ) -> Grant:
        access = self._tokens.access(user.id, session_id, now)
        return Grant(user, session_id, access, refresh, min(expires, now + self._idle))


async def _forget_expired(db: AsyncSession, user_id: str, now: datetime) -> None:
    """Delete sessions of a user that nobody can go on with any more, and such refresh tokens."""
    # After the user, as who deletes it does; what others hold is left for the next sign-in.
    mine = select(Session.id).where(Session.user_id == user_id)
    over = mine.where(Session.expires_at <= now).with_for_update(skip_locked=True)
    gone = (await db.scalars(over.limit(_MOST_AT_ONCE))).all()
    if gone:
        await db.execute(delete(Session).where(Session.id.in_(gone)))
    stale = (
        select(RefreshToken.digest)
        .where(RefreshToken.session_id.in_(mine), RefreshToken.expires_at <= now)
        .limit(_MOST_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    if used_up := (await db.scalars(stale)).all():
        await db.execute(delete(RefreshToken).where(RefreshToken.digest.in_(used_up)))


async def end(
    db: AsyncSession,
    why: str,
    now: datetime,
    *,
    user_id: str,
    session_id: str | None = None,
    but: str | None = None,
) -> int:
    """End a session of a user, or all (`but` one); returns how many."""
    # Before the sessions, as who deletes their user does: else two could wait for each other.
    await epoch.advance(db)
    statement = (
        update(Session)
        .where(Session.user_id == user_id, Session.revoked_at.is_(None))
        .values(revoked_at=now, revoked_why=why)
        .returning(Session.id)
    )
    if session_id is not None:
        statement = statement.where(Session.id == session_id)
    if but is not None:
        statement = statement.where(Session.id != but)
    return len((await db.scalars(statement)).all())
