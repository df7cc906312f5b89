"""What goes over the wire about saved views."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from conveyor_console.kit.wire import Line, Strict


class List(StrEnum):
    """The lists that have filters."""

    TASKS = "tasks"
    DEAD_LETTERS = "dead-letters"
    QUEUES = "queues"
    WORKERS = "workers"
    SCHEDULES = "schedules"
    WORKFLOWS = "workflows"
    BULK_ACTIONS = "bulk-actions"
    ALERTS = "alerts"
    USERS = "users"
    AUDIT = "audit"


class ViewIn(Strict):
    """A filter to keep."""

    of: List
    """The list that it is a view of."""
    name: Line = Field(min_length=1, max_length=100)
    q: Line = Field(default="", max_length=1_000)
    sort: str | None = Field(default=None, max_length=40, pattern="^-?[a-z_]+$")


class ViewOut(BaseModel):
    """A filter that was kept."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    of: List
    name: str
    q: str
    sort: str | None
    created_at: datetime
    updated_at: datetime
    version: int
    """What its `ETag` says."""
