"""When a schedule fires: by cron or on a grid, behind one small value. Pure.

Times are epoch seconds. A fire's *nominal time* is the instant that its timing names; it may be
enqueued later, but never under another one.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from conveyor.core.amounts import seconds
from conveyor.core.errors import InvalidOption

if TYPE_CHECKING:
    from conveyor.core.cron import Cron

LEAST_EVERY = 0.1
"""Seconds between the fires of the fastest grid."""
_MICROS = 1_000_000


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Cron in a time zone, or every so many seconds on the grid of the epoch. Made by `timing`."""

    cron: str | None = None
    tz: str = "UTC"
    every: float | None = None

    def after(self, moment: float) -> float | None:
        """Return the first nominal time later than `moment`; None when there is none any more."""
        if self.every is not None:
            period = round(self.every * _MICROS)
            return (round(moment * _MICROS) // period + 1) * period / _MICROS
        if self.cron is None:
            return None
        found = _cron(self.cron, self.tz).after(_utc(moment))
        return None if found is None else found.timestamp()

    def between(self, after: float, until: float, limit: int) -> list[float]:
        """Return the first `limit` nominal times in (after, until]."""
        found: list[float] = []
        at = self.after(after)
        while at is not None and at <= until and len(found) < limit:
            found.append(at)
            at = self.after(at)
        return found

    def newest(self, after: float, until: float, limit: int) -> list[float]:
        """Return the last `limit` nominal times in (after, until], in order. Looks back in steps
        that grow, so that a long time with many fires costs no more than a short one."""
        span = 60.0 if self.every is None else self.every * limit
        while True:
            start = max(after, until - span)
            found: deque[float] = deque(maxlen=limit)
            at = self.after(start)
            while at is not None and at <= until:
                found.append(at)
                at = self.after(at)
            if len(found) == limit or start <= after:
                return list(found)
            span *= 8

    def __str__(self) -> str:
        if self.every is not None:
            return f"every {self.every:g} s"
        return f"{self.cron} {self.tz}"


class Fire(msgspec.Struct, frozen=True):
    """A fire to come, as `preview` shows it."""

    at: datetime
    """The nominal time, UTC."""
    local: datetime
    """The same instant in the schedule's time zone."""
    note: str = ""
    """What the change of clocks does to it, if anything."""


def timing(
    *, cron: str | None = None, tz: str | None = None, every: float | timedelta | None = None
) -> Timing:
    """Return a checked timing: `cron` (five fields or a nickname) in the IANA zone `tz` (default
    UTC), or `every` so many seconds, at least 0.1. Raises `InvalidOption`.
    """
    if (cron is None) == (every is None):
        raise InvalidOption("a schedule has either cron= or every=: give exactly one of them")
    if every is not None:
        period = seconds(every, "every", least=LEAST_EVERY)
        if tz is not None:
            raise InvalidOption(f"tz={tz!r}: a grid of seconds has no time zone; use cron for one")
        return Timing(every=period)
    found = Timing(cron=" ".join((cron or "").split()), tz="UTC" if tz is None else tz)
    _cron(found.cron or "", found.tz)  # raises for what makes no sense
    return found


def preview(when: Timing, start: float, count: int) -> list[Fire]:
    """Return the next `count` fires after `start`, with what a change of clocks does to them."""
    return [_fire(when, at) for at in when.between(start, float("inf"), count)]


def _fire(when: Timing, at: float) -> Fire:
    from conveyor.core.cron import is_shown_twice, time_zone

    zone = time_zone(when.tz)
    moment = _utc(at)
    local = moment.astimezone(zone)
    if when.cron is None:
        return Fire(moment, local)
    wall = local.replace(tzinfo=None, fold=0)
    if is_shown_twice(wall, zone):
        return Fire(moment, local, "second time the clocks show it" if local.fold else _first(when))
    if not _cron(when.cron, when.tz).matches(wall):
        return Fire(moment, local, "moved: the clocks leap over its time")
    return Fire(moment, local)


def _first(when: Timing) -> str:
    once = _cron(when.cron or "", when.tz).is_fixed
    return "first time the clocks show it" + (", and the only fire" if once else "")


def _cron(expression: str, tz: str) -> Cron:
    # Most workers see no cron expression in their lives: zones and calendars can wait.
    from conveyor.core.cron import cron

    return cron(expression, tz)


def _utc(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
