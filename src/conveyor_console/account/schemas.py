"""What goes over the wire about accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from conveyor_console.auth.schemas import Email, Name, NewPassword, Password, UserOut
from conveyor_console.kit.wire import Strict


class Login(Strict):
    """Credentials."""

    email: Email
    password: Password


class Registration(Strict):
    """A new account."""

    email: Email
    password: NewPassword
    name: Name = ""
    invitation: str | None = Field(default=None, max_length=100)


class PasswordChange(Strict):
    """Both passwords: a session that was left open does not change one."""

    current: Password
    new: NewPassword


class Granted(BaseModel):
    """A sign-in. The refresh token is in an httpOnly cookie, and here for machines."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind, no secret
    expires_in: int
    """Seconds."""
    refresh_token: str
    csrf_token: str
    """What a page that signs in by cookie sends as `X-CSRF-Token` with every change."""
    user: UserOut


class Refresh(Strict):
    """For machines; browsers send their cookie instead."""

    refresh_token: str | None = Field(default=None, max_length=4_000)


class SessionOut(BaseModel):
    """One sign-in."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ip: str
    agent: str
    current: bool = False


class Me(BaseModel):
    """Who you are and what you may do."""

    user: UserOut
    permissions: list[str]
    csrf_token: str | None
