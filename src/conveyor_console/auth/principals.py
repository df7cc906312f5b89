"""From a token or a key to who asks: read once, good until anything about anybody changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update

from conveyor_console.auth.keys import KEY_PREFIX
from conveyor_console.auth.models import ApiKey, Role, Session, User
from conveyor_console.auth.permissions import Permission, allowed
from conveyor_console.auth.tokens import BadToken, Tokens, digest_of
from conveyor_console.db.engine import Database
from conveyor_console.db.epoch import Epoch

_MOST = 10_000
"""Principals to remember."""
_USED_EVERY = timedelta(minutes=1)
"""How exact the last use of a key is."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what they may do."""

    user_id: str
    email: str
    role: Role
    permissions: frozenset[Permission]
    session_id: str | None = None
    key_id: str | None = None
    key_prefix: str | None = None
    expires_at: datetime | None = None

    @property
    def name(self) -> str:
        """How it is written down in tasks and in the audit log."""
        return self.email if self.key_id is None else f"{self.email} (key {self.key_prefix})"


class Principals:
    """Looks principals up."""

    def __init__(self, database: Database, epoch: Epoch, tokens: Tokens) -> None:
        self._database = database
        self._epoch = epoch
        self._tokens = tokens
        self._at = 0
        self._known: dict[str, Principal] = {}
        self._used: dict[str, datetime] = {}

    async def of(self, credential: str, now: datetime) -> Principal:
        """Return whose access token or API key this is. Raises `BadToken`."""
        is_key = credential.startswith(KEY_PREFIX)
        if is_key:
            handle = digest_of(credential)
        else:
            handle = self._tokens.read_access(credential, now).session_id
        epoch = await self._epoch.read()
        if epoch != self._at or len(self._known) > _MOST:
            self._known.clear()
            self._at = epoch
        found = self._known.get(handle)
        if found is None:
            found = await (self._of_key(handle) if is_key else self._of_session(handle))
            # What was asked before a change, and answered after it, is old already.
            if self._at == epoch:
                self._known[handle] = found
        if found.expires_at is not None and found.expires_at <= now:
            raise BadToken("it has expired")
        if found.key_id is not None:
            await self._note_use(found.key_id, now)
        return found

    async def _of_session(self, session_id: str) -> Principal:
        statement = (
            select(User, Session.expires_at)
            .join(Session, Session.user_id == User.id)
            .where(Session.id == session_id, Session.revoked_at.is_(None))
            .where(User.disabled_at.is_(None))
        )
        async with self._database.reading() as session:
            row = (await session.execute(statement)).one_or_none()
        if row is None:
            raise BadToken("the session has ended")
        user, expires_at = row
        role = Role(user.role)
        return Principal(
            user.id, user.email, role, allowed(role), session_id=session_id, expires_at=expires_at
        )

    async def _of_key(self, digest: str) -> Principal:
        statement = (
            select(User, ApiKey)
            .join(ApiKey, ApiKey.user_id == User.id)
            .where(ApiKey.digest == digest, ApiKey.revoked_at.is_(None))
            .where(User.disabled_at.is_(None))
        )
        async with self._database.reading() as session:
            row = (await session.execute(statement)).one_or_none()
        if row is None:
            raise BadToken("no such key")
        user, key = row
        role = Role(user.role)
        return Principal(
            user.id,
            user.email,
            role,
            allowed(role, key.scopes),
            key_id=key.id,
            key_prefix=key.prefix,
            expires_at=key.expires_at,
        )

    async def _note_use(self, key_id: str, now: datetime) -> None:
        if now - self._used.get(key_id, datetime.min.replace(tzinfo=UTC)) < _USED_EVERY:
            return
        self._used[key_id] = now
        async with self._database.writing() as session:
            await session.execute(
                update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now)
            )
