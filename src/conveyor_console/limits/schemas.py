"""What goes over the wire about limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from conveyor.limits import GateInfo, Learned, StatedLimit
from conveyor_console.kit.moments import Until, moment, since
from conveyor_console.kit.wire import Line, Strict, Whole, not_both

_RATE = r"^\s*[0-9]+(\.[0-9]+)?\s*/\s*([0-9]+(\.[0-9]+)?)?\s*[smhd]\s*$"
LimitName = Annotated[Line, Field(min_length=1, max_length=256)]
Key = Annotated[Line | None, Field(max_length=256, description="Of one key; null: all of it.")]


class OneLimit(Strict):
    """A limit, or one key of it."""

    limit: LimitName
    key: Key = None


class ClosingIn(OneLimit):
    """A pause: until a time, for so many seconds, or until it is ended."""

    model_config = ConfigDict(json_schema_extra=not_both("until", "seconds"))

    until: Until = None
    seconds: float | None = Field(
        default=None, gt=0, le=31_536_000, allow_inf_nan=False, strict=True
    )
    reason: Line = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.until is not None and self.seconds is not None:
            raise ValueError("give until or seconds, not both")
        return self


class TuningIn(Strict):
    """Numbers in place of those that the code states; null: the code's again."""

    limit: LimitName
    rate: Line | None = Field(
        default=None,
        max_length=50,
        examples=["50/s", "100/m"],
        json_schema_extra={"pattern": _RATE},
    )
    most: Annotated[int | None, Field(ge=1, le=1_000_000, strict=True), Whole] = None


class ClosedOut(BaseModel):
    """Who paused it, when and why."""

    reason: str
    by: str
    at: datetime
    until: datetime | None
    """Null: until somebody ends it."""


class LearnedOut(BaseModel):
    """What a limit has learned from refusals."""

    rate: float
    """Tokens per second that it goes by now."""
    stated: float
    refused_at: datetime | None


class LimitOut(BaseModel):
    """A limit, or one key of it, that is busy, in debt, paused or tuned."""

    limit: str
    key: str
    """Empty: the limit as a whole."""
    running: int
    holders: list[str]
    """Ids of the tasks that have a slot, at most 100."""
    whole_burst_at: datetime | None
    """When the whole burst may be taken again."""
    rate: float | None
    """Tuned or learned, tokens per second."""
    most: int | None
    """Tuned slots."""
    learned: LearnedOut | None
    pause: ClosedOut | None

    @classmethod
    def of(cls, info: GateInfo, learned: Learned | None, now: float) -> LimitOut:
        """Say it in terms of the API."""
        state = info.state
        ours = learned is not None and state.rate in {learned.applied, learned.before}
        return cls(
            limit=info.limit,
            key=info.key,
            running=state.running,
            holders=list(info.holders),
            whole_burst_at=moment(state.tat or None),
            rate=state.rate,
            most=state.most,
            learned=_learned(learned) if learned is not None and ours else None,
            pause=_closed(info, now),
        )


class StatedOut(BaseModel):
    """A limit as the code states it."""

    limit: str
    rate: str | None
    burst: float | None
    most: int | None
    keyed: bool
    adapts: bool
    tasks: list[str]
    queues: list[str]

    @classmethod
    def of(cls, limit: StatedLimit) -> StatedOut:
        """Say it in terms of the API."""
        return cls(
            limit=limit.name,
            rate=limit.rate,
            burst=limit.burst,
            most=limit.most,
            keyed=limit.keyed,
            adapts=limit.adapts,
            tasks=list(limit.tasks),
            queues=list(limit.queues),
        )


def _learned(learned: Learned) -> LearnedOut:
    return LearnedOut(rate=learned.applied, stated=learned.stated, refused_at=moment(learned.at))


def _closed(info: GateInfo, now: float) -> ClosedOut | None:
    pause, until = info.pause, info.state.closed_until
    if pause is None or until <= now:
        return None
    return ClosedOut(reason=pause.reason, by=pause.by, at=since(pause.at), until=moment(until))


class LimitPage(BaseModel):
    """Some of the limits and keys that have a state."""

    items: list[LimitOut]
    next_cursor: str | None
    """None at the end."""
    truncated: bool = False
    """There are more keys than one request looks at: ask for one limit by `limit_name`."""
