"""Users, their sessions and API keys."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from conveyor_console.db.base import PREFIX, Base, Id, Json, Moment


class Role(StrEnum):
    """What a user is, from the least to the most."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Roles by what they may do."""
        return list(Role).index(self)


class User(Base):
    """Somebody who may sign in."""

    __tablename__ = f"{PREFIX}user"
    __table_args__ = (UniqueConstraint("email"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    """In lower case: nobody has two accounts that differ by case."""
    name: Mapped[str] = mapped_column(String(200), default="")
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(16))
    disabled_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    last_login_at: Mapped[datetime | None] = mapped_column(Moment)
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it


class Session(Base):
    """One sign-in on one device: the family of its refresh tokens."""

    __tablename__ = f"{PREFIX}session"
    __table_args__ = (Index(None, "user_id", "expires_at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(f"{PREFIX}user.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(Moment)
    last_used_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_why: Mapped[str | None] = mapped_column(String(40))
    ip: Mapped[str] = mapped_column(String(45), default="")
    agent: Mapped[str] = mapped_column(String(300), default="")
    user: Mapped[User] = relationship(lazy="raise")


class RefreshToken(Base):
    """A refresh token, by its SHA-256: used once, and followed by its successor."""

    __tablename__ = f"{PREFIX}refresh_token"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[str] = mapped_column(
        ForeignKey(f"{PREFIX}session.id", ondelete="CASCADE"), index=True
    )
    issued_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)
    used_at: Mapped[datetime | None] = mapped_column(Moment)


class ApiKey(Base):
    """A key of a program. Only its SHA-256 is kept: 256 random bits need no slow hash."""

    __tablename__ = f"{PREFIX}api_key"
    __table_args__ = (UniqueConstraint("digest"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(
        ForeignKey(f"{PREFIX}user.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(16))
    """Its first characters, to be known by."""
    digest: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    user: Mapped[User] = relationship(lazy="raise")


class Invitation(Base):
    """A place kept for somebody; the link holds the secret, we its SHA-256."""

    __tablename__ = f"{PREFIX}invitation"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    role: Mapped[str] = mapped_column(String(16))
    invited_by: Mapped[str | None] = mapped_column(
        ForeignKey(f"{PREFIX}user.id", ondelete="SET NULL")
    )
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    used_at: Mapped[datetime | None] = mapped_column(Moment)
