"""What goes over the wire about schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from conveyor_console.kit.moments import Until, moment, since
from conveyor_console.kit.wire import QUEUE, Level, Line, QueueName, Strict, Whole, one_of, some_of

Overlap = Literal["allow", "skip", "buffer_one", "buffer_all", "cancel_other"]
CatchUp = Literal["none", "last", "all"]
Cron = Annotated[Line, Field(min_length=1, max_length=200, examples=["0 9 * * MON-FRI"])]
Zone = Annotated[Line, Field(min_length=1, max_length=100, examples=["Europe/Berlin"])]
Seconds = Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False, strict=True)]
Period = Annotated[float, Field(ge=0.1, le=366 * 86_400, allow_inf_nan=False, strict=True)]


class Timing(Strict):
    """By cron in a zone, or every so many seconds."""

    cron: Cron | None = None
    tz: Zone | None = None
    """An IANA time zone; default: UTC."""
    every: Period | None = None


class NewSchedule(Timing):
    """A schedule to make. What is not said is as its task's definition says."""

    model_config = ConfigDict(json_schema_extra=one_of("cron", "every"))

    name: Line = Field(min_length=1, max_length=200)
    task: Line = Field(min_length=1, max_length=256)
    """Name of the task definition."""
    args: list[Any] = Field(default=[])
    kwargs: dict[str, Any] = Field(default={})
    queue: QueueName | None = None
    priority: Level | None = None
    overlap: Overlap = "allow"
    catch_up: CatchUp = "last"
    catch_up_window: Seconds | None = None
    jitter: Seconds = 0.0


class ScheduleChange(Timing):
    """What to change; what is not given stays."""

    model_config = ConfigDict(
        json_schema_extra=some_of(
            "cron", "tz", "every", "queue", "priority", "overlap", "catch_up", "catch_up_window",
            "jitter",
        )
    )  # fmt: skip

    # Before it is compared with what is there: what is wrong anyway is no conflict.
    queue: Annotated[str, Field(max_length=100, pattern=QUEUE)] | None = None
    priority: Level | None = None
    overlap: Overlap | None = None
    catch_up: CatchUp | None = None
    catch_up_window: Seconds | None = None
    jitter: Seconds | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.changes():
            raise ValueError("nothing to change: give one of the fields at least")
        return self

    def changes(self) -> dict[str, Any]:
        """Return what was given."""
        return self.model_dump(exclude_none=True)


class SchedulePauseIn(Strict):
    """Why, and until when."""

    reason: Line = Field(default="", max_length=500)
    until: Until = None


class Preview(Timing):
    """A timing to look at."""

    model_config = ConfigDict(json_schema_extra=one_of("cron", "every"))

    count: Annotated[int, Field(ge=1, le=100, strict=True), Whole] = 5


class SchedulePauseOut(BaseModel):
    """Who paused it, when and why."""

    reason: str
    by: str
    at: datetime
    until: datetime | None


class ScheduleOut(BaseModel):
    """A schedule as it stands."""

    name: str
    task: str
    timing: str
    """In words."""
    cron: str | None
    tz: str | None
    every: float | None
    overlap: Overlap
    catch_up: CatchUp
    catch_up_window: float
    jitter: float
    queue: str
    priority: int
    args: list[Any]
    kwargs: dict[str, Any]
    pause: SchedulePauseOut | None
    source: Literal["code", "runtime"]
    scope: str
    edited_at: datetime
    next_at: datetime | None
    """Null while it is paused without end."""
    last_at: datetime | None
    last_task: str | None
    """Id of the task of its newest fire."""
    waiting: int
    fired: int
    skipped: int
    version: int
    """What its `ETag` says."""

    @classmethod
    def of(cls, info: Any) -> ScheduleOut:
        """Say it in terms of the API."""
        said = {name: getattr(info, name, None) for name in cls.model_fields}
        paused = info.paused
        said["pause"] = paused and SchedulePauseOut(
            reason=paused.reason,
            by=paused.by,
            at=since(paused.at),
            until=moment(paused.until),
        )
        for name in ("edited_at", "next_at", "last_at"):
            said[name] = moment(said[name])
        return cls.model_validate(said)


class FireOut(BaseModel):
    """A fire to come."""

    at: datetime
    """UTC."""
    local: datetime
    """The same instant on the clocks of the schedule's zone."""
    zone: str
    note: str
    """What a change of the clocks does to it."""


class Fires(BaseModel):
    """The next fires."""

    items: list[FireOut]

    @classmethod
    def of(cls, fires: list[Any], zone: str | None) -> Fires:
        """Say it in terms of the API."""
        return cls(
            items=[
                FireOut(at=one.at, local=one.local, zone=zone or "UTC", note=one.note)
                for one in fires
            ]
        )


class Ran(BaseModel):
    """The task of a run out of turn."""

    task_id: str
