"""What goes over the wire about tasks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_AT_ONCE = 10_000
Level = Annotated[int, Field(ge=0, le=9)] | Literal["low", "normal", "high", "critical"]


class NewTask(BaseModel):
    """A task to enqueue. What is not said is as its definition says."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=256)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: str | None = Field(default=None, max_length=100)
    priority: Level | None = None
    delay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Seconds."""
    at: datetime | None = None
    key: str | None = Field(default=None, min_length=1, max_length=256)
    """At most one task per queue, name and key: a second one answers with the first."""


class Enqueued(BaseModel):
    """The task that there is now."""

    id: str
    created: bool
    """False when the key had a task already."""


class Bulk(BaseModel):
    """Many tasks: all are stored, or none."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[NewTask] = Field(min_length=1, max_length=MOST_AT_ONCE)


class BulkEnqueued(BaseModel):
    """Their ids, in order."""

    items: list[Enqueued]
