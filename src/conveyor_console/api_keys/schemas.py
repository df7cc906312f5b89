"""What goes over the wire about API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from conveyor_console.auth.permissions import SCOPES, Permission
from conveyor_console.kit.wire import Line, Strict, Whole

Scope = Annotated[Permission, WithJsonSchema({"type": "string", "enum": sorted(SCOPES)})]


class NewKey(Strict):
    """A key for a program."""

    name: Annotated[Line, Field(min_length=1, max_length=200)]
    scopes: list[Scope] = Field(min_length=1, max_length=len(Permission))
    """What it may do: nothing that its owner may not."""
    days: Annotated[int | None, Field(ge=1, le=3_660, strict=True), Whole] = 90
    """How long it is good; null: until it is revoked."""


class KeyOut(BaseModel):
    """A key, without what it is."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    user_id: str
    name: str
    prefix: str
    """Its first characters, to know it by."""
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""
    revoked_at: datetime | None


class KeyMade(BaseModel):
    """A new key, which is shown only here."""

    api_key: KeyOut
    key: str
