"""The audit log's table. The database itself refuses to change or delete its rows."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Id, Moment


class Outcome(StrEnum):
    """How it ended."""

    DONE = "done"
    REFUSED = "refused"


class AuditEntry(Base):
    """Something that somebody did, or was not allowed to do. Names are kept as they were: an entry
    outlives the user, so it has no foreign keys."""

    __tablename__ = f"{PREFIX}audit"
    __table_args__ = (
        UniqueConstraint("seq"),
        Index("ix_console_audit_user_id", "user_id", "id"),
        Index("ix_console_audit_action", "action", "id"),
        Index("ix_console_audit_target", "target", "id"),
        Index("ix_console_audit_actor", "actor", "id"),
        Index("ix_console_audit_ip", "ip", "id"),
        Index("ix_console_audit_outcome", "outcome", "id"),
        Index("ix_console_audit_request_id", "request_id", "id"),
        Index("ix_console_audit_at", "at"),
        Index(
            "ix_console_audit_unsealed",
            "id",
            sqlite_where=text("seq IS NULL"),
            postgresql_where=text("seq IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment)
    user_id: Mapped[str | None] = mapped_column(Id)
    actor: Mapped[str] = mapped_column(String(300))
    """E-mail and key, as they were; empty for somebody unknown."""
    key_id: Mapped[str | None] = mapped_column(Id)
    action: Mapped[str] = mapped_column(String(100))
    target: Mapped[str] = mapped_column(String(300))
    outcome: Mapped[str] = mapped_column(String(16))
    status: Mapped[int | None]
    """Of the answer, when it was refused."""
    detail: Mapped[str] = mapped_column(String(500))
    before: Mapped[str | None] = mapped_column(Text)
    """JSON as text: the seal is over these very characters, which JSONB would not keep."""
    after: Mapped[str | None] = mapped_column(Text)
    ip: Mapped[str] = mapped_column(String(45))
    request_id: Mapped[str] = mapped_column(String(64))
    seq: Mapped[int | None] = mapped_column(BigInteger)
    """Its place in the chain, from 1; None for the moment until it is sealed."""
    hash: Mapped[str | None] = mapped_column(String(64))
