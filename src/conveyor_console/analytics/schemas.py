"""What goes over the wire about the past in numbers."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class Percentiles(BaseModel):
    """Seconds that 50, 95 and 99 of a hundred did not exceed; exact to 9 %."""

    p50: float | None
    p95: float | None
    p99: float | None


class Numbers(BaseModel):
    """What happened in a time."""

    succeeded: int
    failed: int
    cancelled: int
    skipped: int
    executions: int
    errors: int
    """Executions that ended in an error, those that were retried included."""
    success_rate: float | None
    """Succeeded ones among succeeded and failed ones, 0 to 1."""
    wait: Percentiles
    """From the enqueue, or the due time, to the first start."""
    run: Percentiles
    """Of executions."""


class Point(Numbers):
    """What happened in one bucket of time."""

    at: datetime
    """Its begin."""


class Series(BaseModel):
    """What happened, bucket by bucket; buckets in which nothing did are left out."""

    start: datetime
    end: datetime
    bucket: int
    """Seconds."""
    total: Numbers
    points: list[Point]


class Row(Numbers):
    """What happened to one task name or in one queue."""

    name: str


class Table(BaseModel):
    """By name, those with most executions first."""

    start: datetime
    end: datetime
    items: list[Row]


class FailureOut(BaseModel):
    """One kind of error."""

    fingerprint: str
    error_type: str
    error: str
    """The latest message."""
    number: int
    names: list[str]
    queues: list[str]
    first_at: datetime
    """The hour."""
    last_at: datetime
    """The hour."""
    task_id: str
    """The latest task with it."""


class Failures(BaseModel):
    """Kinds of errors, the most frequent first."""

    start: datetime
    end: datetime
    items: list[FailureOut]


class Peak(BaseModel):
    """An hour of the week, UTC."""

    weekday: int
    """0 is Monday."""
    hour: int
    executions: int
    errors: int


class Peaks(BaseModel):
    """When work happens; hours without any are left out."""

    start: datetime
    end: datetime
    items: list[Peak]
