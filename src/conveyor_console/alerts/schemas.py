"""What goes over the wire about alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from conveyor_console.alerts.models import AlertReport
from conveyor_console.alerts.rules import Comparison, Status
from conveyor_console.kit.moments import since
from conveyor_console.kit.wire import Line, Strict, Switch

MOST_CHANNELS = 20
Name = Annotated[Line, Field(min_length=1, max_length=100)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False, strict=True)]
Seconds = Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False, strict=True)]
Severity = Literal["info", "warning", "critical"]
ChannelKind = Literal["email", "webhook", "slack"]
Id = Annotated[Line, Field(min_length=1, max_length=36)]


class RuleIn(Strict):
    """When to raise an alert."""

    name: Name
    metric: Annotated[Line, Field(min_length=1, max_length=100)]
    """A name of `GET /alerts/metrics`."""
    target: Annotated[Line, Field(max_length=200)] = ""
    """A queue's name (a schedule's for `schedules.missed`); empty: all. Of a reported metric the
    target that it is reported for."""
    comparison: Comparison = "above"
    threshold: Number
    clear: Number | None = None
    """The alert is over at this value, not before: on the good side of the threshold."""
    for_seconds: Seconds = 60
    clear_seconds: Seconds = 60
    severity: Severity = "warning"
    enabled: Switch = True
    channels: list[Id] = Field(default=[], max_length=MOST_CHANNELS)
    """Ids of the channels to tell."""

    @model_validator(mode="after")
    def _clear_on_the_good_side(self) -> Self:
        if self.clear is None:
            return self
        good = (
            self.clear <= self.threshold
            if self.comparison == "above"
            else self.clear >= self.threshold
        )
        if not good:
            raise ValueError("clear must be on the good side of the threshold")
        return self


class StandingOut(BaseModel):
    """Where a rule stands."""

    model_config = ConfigDict(from_attributes=True)

    status: Status
    since: datetime
    value: float | None
    checked_at: datetime
    alert_id: str | None


class RuleOut(BaseModel):
    """A rule."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    metric: str
    target: str
    comparison: Comparison
    threshold: float
    clear: float | None
    for_seconds: float
    clear_seconds: float
    severity: Severity
    enabled: bool
    channels: list[str]
    silenced_until: datetime | None
    silenced_by: str | None
    created_at: datetime
    updated_at: datetime
    version: int
    standing: StandingOut | None = None
    """None until it was evaluated for the first time."""


class Silence(Strict):
    """Tell nobody for a while."""

    seconds: Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False, strict=True)]


class Acknowledgement(Strict):
    """Somebody takes care of it."""

    note: Annotated[Line, Field(max_length=500)] = ""


class AlertOut(BaseModel):
    """One time that a rule fired."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    rule_id: str
    status: Status
    severity: Severity
    value: float | None
    summary: str
    breached_at: datetime
    fired_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str | None
    resolved_at: datetime | None


class AlertDeliveryOut(BaseModel):
    """Telling one channel of it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    channel_id: str
    kind: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    next_at: datetime | None
    error: str | None
    created_at: datetime
    delivered_at: datetime | None


class ChannelIn(Strict):
    """Where to tell alerts."""

    name: Name
    kind: ChannelKind
    target: Annotated[Line, Field(min_length=1, max_length=2_000)]
    """E-mail addresses separated by commas, or a URL. It is never shown again in full: the URL of
    a chat's webhook is a secret."""
    enabled: Switch = True


class ChannelOut(BaseModel):
    """A channel."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    kind: ChannelKind
    target: str
    """Addresses as they are; of a URL the host only."""
    enabled: bool
    created_at: datetime
    updated_at: datetime
    version: int


class Tested(BaseModel):
    """How a trial went."""

    delivered: bool
    error: str | None


class Metrics(BaseModel):
    """What rules can be about."""

    items: list[str]


class ReportIn(Strict):
    """How a metric of your own stands."""

    value: Number
    target: Annotated[Line, Field(max_length=200)] = ""
    """What it is of, as rules name it; empty: of everything."""
    good_for: float = Field(default=300, ge=1, le=7 * 86_400, allow_inf_nan=False, strict=True)
    """Seconds after which it says nothing any more."""


class ReportOut(BaseModel):
    """The last value of a metric for a target."""

    metric: str
    target: str
    value: float
    at: datetime
    until: datetime
    """It is good until then."""
    reported_by: str

    @classmethod
    def of(cls, row: AlertReport) -> ReportOut:
        """Say it in terms of the API."""
        return cls(
            metric=row.metric,
            target=row.target,
            value=row.value,
            at=since(row.at),
            until=since(row.until),
            reported_by=row.reported_by,
        )
