"""What goes over the wire about bulk actions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, Field, model_validator

from conveyor_console.bulk_actions.choosing import ON_DEAD, Candidate
from conveyor_console.bulk_actions.models import OVER, Action, BulkAction, Of, State
from conveyor_console.kit.moments import moment
from conveyor_console.kit.wire import Instant, Line, Strict, Whole

MOST_PER_SECOND = 500
_SAMPLE = 20


class NewBulkAction(Strict):
    """What to do to which tasks."""

    action: Action
    of: Of = Of.TASKS
    """The list that `q` is a filter of. Of dead letters: `requeue` and `discard`."""
    q: str = Field(max_length=1_000)
    """An empty filter is all that the action can be done to."""
    reason: Line = Field(default="", max_length=400)
    """Kept with the tasks that it cancels, and in the audit log."""
    delay: float | None = Field(
        default=None, ge=0, le=100 * 366 * 86_400, allow_inf_nan=False, strict=True
    )
    """For `reschedule`: seconds from when each task is touched."""
    at: Instant | None = None
    """For `reschedule`: when all of them become due. One of both."""
    per_second: Annotated[int, Field(ge=1, le=MOST_PER_SECOND, strict=True), Whole] = 100
    """Tasks that it touches in a second, at most."""

    @model_validator(mode="after")
    def _when(self) -> Self:
        given = (self.delay is not None) + (self.at is not None)
        if given != (self.action is Action.RESCHEDULE):
            raise ValueError("reschedule needs either delay or at, and nothing else takes them")
        return self

    @model_validator(mode="after")
    def _of_what(self) -> Self:
        if self.of is Of.DEAD_LETTERS and self.action not in ON_DEAD:
            raise ValueError("of dead letters there are requeue and discard")
        return self


class RunIn(Strict):
    """How long it can be taken back."""

    grace: float = Field(default=10.0, ge=0, le=3_600, allow_inf_nan=False, strict=True)
    """Seconds before the first task is touched."""


class SampleOut(BaseModel):
    """One of the tasks that fit."""

    id: str
    name: str
    queue: str
    state: str


class Inverse(BaseModel):
    """A bulk action that takes this one back: plan it as any other."""

    action: Action
    q: str


class BulkActionOut(BaseModel):
    """A plan, and how far its run is."""

    id: str
    action: Action
    of: Of
    q: str
    reason: str
    delay: float | None
    at: datetime | None
    per_second: int
    state: State | Literal["expired"]
    """`expired`: it was never run, and cannot be any more."""
    count: int
    """Tasks that fitted when it was planned."""
    is_exact: bool
    """False: there were more than were counted."""
    sample: list[SampleOut]
    """The newest of them."""
    created_by: str
    created_at: datetime
    expires_at: datetime
    started_by: str | None
    started_at: datetime | None
    begins_at: datetime | None
    """Until then it can be undone, and nothing has happened."""
    ended_at: datetime | None
    done: int
    failed: int
    skipped: dict[str, int]
    """How many tasks were left alone, by reason."""
    error: str | None
    """What keeps it from getting on just now, or why tasks failed."""
    inverse: Inverse | None
    """What takes back what was done, if anything does."""

    @classmethod
    def showing(cls, row: BulkAction, now: datetime) -> BulkActionOut:
        """Say it in terms of the API."""
        said: dict[str, Any] = {name: getattr(row, name, None) for name in cls.model_fields}
        if row.state == State.PLANNED and row.expires_at <= now:
            said["state"] = "expired"
        return cls.model_validate(
            said
            | {
                "at": moment(row.due_at),
                "sample": orjson.loads(row.sample),
                "inverse": _inverse(row),
            }
        )


def _inverse(row: BulkAction) -> Inverse | None:
    """Tasks that were cancelled can be requeued: they run at once then, whenever they were due."""
    if row.action != Action.CANCEL or not row.done or row.state not in OVER:
        return None
    return Inverse(action=Action.REQUEUE, q=f'state:cancelled reason:"bulk action {row.id}"')


def sample_of(tasks: list[Candidate]) -> str:
    """Write down the newest tasks of a plan."""
    some = [
        {"id": one.id, "name": one.name, "queue": one.queue, "state": one.state}
        for one in tasks[:_SAMPLE]
    ]
    return orjson.dumps(some).decode()
