"""What goes over the wire about webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from conveyor_console.kit.wire import Line, Strict, Switch, Whole
from conveyor_console.webhooks.collecting import TOPICS

Topic = Annotated[str, Field(json_schema_extra={"enum": list(TOPICS)})]
_URL = {"format": "uri", "pattern": "^https?://[^\\u0000-\\u0020\\u007f-\\u009f]+$"}
State = Literal["pending", "delivered", "failed"]


class WebhookIn(Strict):
    """An endpoint."""

    name: Annotated[Line, Field(min_length=1, max_length=100)]
    url: Annotated[Line, Field(min_length=1, max_length=2_000, json_schema_extra=_URL)]
    """Public, on port 80 or 443."""
    topics: list[Topic] = Field(min_length=1, max_length=50)
    enabled: Switch = True


class WebhookOut(BaseModel):
    """An endpoint; its secret is not shown."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    url: str
    topics: list[str]
    enabled: bool
    former_until: datetime | None
    """Until then the secret before the last rotation signs too."""
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int


class WebhookMade(BaseModel):
    """A new endpoint, or a new secret of one."""

    webhook: WebhookOut
    secret: str
    """Shown here only."""


class Rotation(Strict):
    """A new secret."""

    overlap_seconds: Annotated[int, Field(ge=0, le=30 * 86_400, strict=True), Whole] = 86_400
    """How long the old one signs too."""


class WebhookDeliveryOut(BaseModel):
    """What was sent, or will be."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    topic: str
    body: str
    replay_of: str | None
    state: State
    attempts: int
    status_code: int | None
    error: str | None
    next_at: datetime | None
    created_at: datetime
    delivered_at: datetime | None
