"""What goes over the wire about dead letters."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from conveyor_console.kit.wire import UUID, Strict, one_of

MOST_IDS = 1_000


class LetterOut(BaseModel):
    """A dead letter."""

    task_id: str
    name: str
    queue: str
    state: str
    died_at: datetime
    attempts: int
    error_type: str | None
    error: str | None
    """The message, shortened."""
    reason: str | None
    fingerprint: str


class LetterPage(BaseModel):
    """Dead letters, those with the newest ids first."""

    items: list[LetterOut]
    next_cursor: str | None
    truncated: bool = False
    """The filter looked at as many as it may for one page: ask on with the cursor."""


class GroupOut(BaseModel):
    """Dead letters with the same error."""

    fingerprint: str
    number: int
    error_type: str | None
    error: str | None
    """The message of the newest one."""
    name: str
    """The task name of the newest one."""
    first_at: datetime
    last_at: datetime
    task_id: str
    """The newest one."""


class GroupPage(BaseModel):
    """Groups, those with the newest dead letter first."""

    items: list[GroupOut]
    next_cursor: str | None


class Chosen(Strict):
    """Which dead letters: these, or those that fit a filter."""

    model_config = ConfigDict(json_schema_extra=one_of("ids", "q"))

    ids: list[Annotated[str, Field(pattern=f"^{UUID}$")]] | None = Field(
        default=None, min_length=1, max_length=MOST_IDS
    )
    q: str | None = Field(default=None, max_length=1_000)
    """An empty filter is all of them."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.ids is None) == (self.q is None):
            raise ValueError("give either ids or q")
        return self


class Changed(BaseModel):
    """What became of them."""

    changed: int
    unchanged: int
    """Those that were no dead letters any more."""
    more: bool = False
    """There are more that fit: at most 10,000 are changed at a time."""
