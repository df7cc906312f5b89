"""What goes over the wire about the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Json

from conveyor_console.audit.models import Outcome


class AuditOut(BaseModel):
    """Something that somebody did, or was not allowed to do."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    at: datetime
    user_id: str | None
    actor: str
    key_id: str | None
    action: str
    target: str
    outcome: Outcome
    status: int | None
    detail: str
    before: Json[Any] | None
    after: Json[Any] | None
    ip: str
    request_id: str
    seq: int | None
    """Its place in the chain; null for the moment until it is sealed."""
    hash: str | None


class AuditPage(BaseModel):
    """Entries of the audit log."""

    items: list[AuditOut]
    next_cursor: str | None
    truncated: bool = False
    """The filter looked at as many entries as it may for one page: ask on with the cursor."""


class Verified(BaseModel):
    """What a walk along the chain found."""

    intact: bool
    checked: int
    """Entries of this walk."""
    next_after: int | None
    """Where to go on, when there is more."""
    broken_at: int | None
    why: str | None
    last_seq: int
    last_hash: str
    """Keep both elsewhere: `anchor` proves later that the log was not cut off behind them."""
    unsealed: int
    """Entries of this moment, not yet in the chain."""
