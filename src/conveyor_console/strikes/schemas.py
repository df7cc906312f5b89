"""What goes over the wire about strikes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from conveyor.strikes import Strike
from conveyor_console.kit.moments import Until, moment, since
from conveyor_console.kit.wire import Line, QueueName, Strict


class StrikeIn(Strict):
    """Tasks to hold back: all that is given must hold, and something must be given."""

    name: Line | None = Field(default=None, min_length=1, max_length=256)
    """Of the task definition; `*` and `?` stand for any letters."""
    queue: QueueName | None = None
    where: list[Annotated[str, Field(max_length=1_000)]] = Field(default=[], max_length=20)
    """Comparisons of arguments, as `customer_id == 7`."""
    until: Until = None
    reason: Line = Field(default="", max_length=500)


class ComparisonOut(BaseModel):
    """A comparison with one argument."""

    argument: str
    operator: str
    value: Any


class StrikeOut(BaseModel):
    """What is held back, since when and by whom."""

    id: str
    name: str | None
    queue: str | None
    where: list[ComparisonOut]
    reason: str
    by: str
    at: datetime
    until: datetime | None
    sentence: str
    """All of it in words."""

    @classmethod
    def of(cls, strike: Strike) -> StrikeOut:
        """Say it in terms of the API."""
        return cls(
            id=strike.id,
            name=strike.name,
            queue=strike.queue,
            where=[
                ComparisonOut(argument=one.argument, operator=one.operator, value=one.value)
                for one in strike.where
            ],
            reason=strike.reason,
            by=strike.by,
            at=since(strike.at),
            until=moment(strike.until),
            sentence=strike.sentence(),
        )


class Lifted(BaseModel):
    """A strike has ended."""

    freed: int
    """Tasks that it held back and that may start now."""
