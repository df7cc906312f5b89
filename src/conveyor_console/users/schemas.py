"""What goes over the wire about users and invitations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from conveyor_console.auth.models import Role
from conveyor_console.auth.schemas import Email, Name, NewPassword
from conveyor_console.kit.wire import Strict, Switch, Whole, some_of


class NewUser(Strict):
    """A user with a password that you tell them; to let them choose one, invite them."""

    email: Email
    password: NewPassword
    name: Name = ""
    role: Role = Role.VIEWER


class UserChange(Strict):
    """What to change; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=some_of("name", "role", "disabled"))

    name: Name | None = None
    role: Role | None = None
    disabled: Switch | None = None
    """A disabled user cannot sign in, and their sessions and keys end."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(value is None for value in (self.name, self.role, self.disabled)):
            raise ValueError("say what to change: name, role or disabled")
        return self


class NewInvitation(Strict):
    """A place for somebody who then chooses their own password."""

    email: Email
    role: Role = Role.VIEWER
    days: Annotated[int, Field(ge=1, le=30, strict=True), Whole] = 7
    """How long it is good."""


class InvitationOut(BaseModel):
    """An invitation. Its token is shown once, when it is made."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(validation_alias="digest")
    email: str
    role: Role
    invited_by: str | None
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


class Invited(BaseModel):
    """A new invitation and its token, which is shown only here."""

    invitation: InvitationOut
    token: str
