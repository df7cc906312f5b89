"""What goes over the wire about users, whoever asks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from conveyor_console.auth.models import Role
from conveyor_console.auth.passwords import LONGEST, SHORTEST
from conveyor_console.kit.wire import Line

_EMAIL = {"format": "email"}
Email = Annotated[
    str, Field(min_length=3, max_length=254, examples=["ada@example.com"], json_schema_extra=_EMAIL)
]
Password = Annotated[str, Field(min_length=1, max_length=LONGEST)]
NewPassword = Annotated[Password, Field(json_schema_extra={"minLength": SHORTEST})]
"""One that is chosen now; `auth.accounts.weakness` says what else it must be."""
Name = Annotated[Line, Field(max_length=200)]


class UserOut(BaseModel):
    """A user as everybody may see them."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    email: str
    name: str
    role: Role
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None
