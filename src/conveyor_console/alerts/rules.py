"""When an alert begins, and when it is over. Pure: a measured value and a moment in, where the rule
stands out.

    ok ──breached──▶ pending ──for_seconds──▶ firing ──a person──▶ acknowledged
     ▲                  │                       │                      │
     └──────cleared─────┘                       └──────cleared for clear_seconds──▶ resolved (≙ ok)

A rule with `comparison="above"` is breached by values above `threshold` and cleared by values at or
below `clear` (default: the threshold). Between the two nothing changes: that is the hysteresis.
A value that cannot be measured (None) changes nothing either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """Where a rule, or an alert, stands."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


OPEN = frozenset({Status.FIRING, Status.ACKNOWLEDGED})
"""An alert is open."""
Comparison = Literal["above", "below"]
Telling = Literal["firing", "resolved"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rule says."""

    comparison: Comparison
    threshold: float
    clear: float | None = None
    for_seconds: float = 0.0
    clear_seconds: float = 0.0

    def breached(self, value: float) -> bool:
        """Whether the value is beyond the threshold."""
        return value > self.threshold if self.comparison == "above" else value < self.threshold

    def cleared(self, value: float) -> bool:
        """Whether the value is back on the good side of `clear`."""
        edge = self.threshold if self.clear is None else self.clear
        return value <= edge if self.comparison == "above" else value >= edge


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rule stands. `announced`: somebody was told that it fires."""

    status: Status
    since: datetime
    breached_at: datetime | None = None
    cleared_at: datetime | None = None
    announced: bool = False


def decide(terms: Terms, standing: Standing, value: float | None, now: datetime) -> Standing:
    """Return where the rule stands after a measurement."""
    if value is None:
        return standing
    if terms.breached(value):
        return _breached(terms, standing, now)
    if not terms.cleared(value):
        # Neither bad nor good: what was on its way to being over is not.
        return replace(standing, cleared_at=None)
    return _cleared(terms, standing, now)


def acknowledge(standing: Standing, now: datetime) -> Standing | None:
    """Return where it stands when somebody takes care of it; None when it does not fire."""
    if standing.status is not Status.FIRING:
        return None
    return replace(standing, status=Status.ACKNOWLEDGED, since=now)


def telling(standing: Standing, *, silenced: bool) -> tuple[Telling | None, Standing]:
    """Return what is to be told now, and the standing after that. What began in silence is told
    when the silence ends, if it still fires; what nobody was told of ends without a word."""
    if standing.status is Status.FIRING and not standing.announced and not silenced:
        return "firing", replace(standing, announced=True)
    if standing.status not in OPEN and standing.announced:
        return "resolved", replace(standing, announced=False)
    return None, standing


def _breached(terms: Terms, standing: Standing, now: datetime) -> Standing:
    if standing.status in OPEN:
        return replace(standing, cleared_at=None)
    begun = standing.breached_at if standing.status is Status.PENDING else None
    begun = begun or now
    if now - begun >= timedelta(seconds=terms.for_seconds):
        return replace(
            standing, status=Status.FIRING, since=now, breached_at=begun, cleared_at=None
        )
    if standing.status is Status.PENDING:
        return standing
    return replace(standing, status=Status.PENDING, since=now, breached_at=begun, cleared_at=None)


def _cleared(terms: Terms, standing: Standing, now: datetime) -> Standing:
    if standing.status is Status.PENDING:
        return replace(standing, status=Status.OK, since=now, breached_at=None, cleared_at=None)
    if standing.status not in OPEN:
        return standing
    begun = standing.cleared_at or now
    if now - begun >= timedelta(seconds=terms.clear_seconds):
        return replace(
            standing, status=Status.RESOLVED, since=now, breached_at=None, cleared_at=None
        )
    return replace(standing, cleared_at=begun)
