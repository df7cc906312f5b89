"""Cron expressions in a time zone: what they mean, and when they fire. Pure.

Five fields (minute, hour, day of month, month, day of week) as in Debian's cron, read by cronsim,
or one of the nicknames. Where clocks are changed, as there (contract D18):

- a *fixed-hour* expression (neither minute nor hour begins with `*`) means a time of day: one that
  the clocks leap over fires at the first instant after the gap, one that they show twice fires the
  first time only;
- any other means an interval: it fires at every real instant at which the clocks show a matching
  time, so twice for a time shown twice and not at all within a gap.

cronsim walks the wall clock only. Which instants these walls are is decided here: its own walk
over zones loses instants where clocks change by half an hour, and at midnight.
"""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from conveyor.core.errors import InvalidOption

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MAX_LENGTH = 200
_FIELDS = "minute hour day-of-month month day-of-week"
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_START = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall clock has no zone
_LAST = datetime(9990, 1, 1, tzinfo=UTC)


class Cron:
    """One expression in one time zone. Made by `cron`, which checks and caches."""

    def __init__(self, expression: str, tz: str) -> None:
        self.zone = time_zone(tz)
        self._walls = _parse(expression)
        minute, hour, *_ = _fields(expression)
        self.is_fixed = not (minute.startswith("*") or hour.startswith("*"))
        """Whether it names times of day rather than intervals."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first instant later than `moment` at which it fires (both aware, UTC), or
        None when there is none that a date can express."""
        if moment >= _LAST:
            return None
        return self._time_of_day(moment) if self.is_fixed else self._interval(moment)

    def matches(self, wall: datetime) -> bool:
        """Say whether the expression names this time on the wall (naive, whole minutes)."""
        return self._wall_after(wall - _SECOND) == wall

    def _time_of_day(self, moment: datetime) -> datetime | None:
        wall: datetime | None = _wall(moment, self.zone)
        while wall is not None and (wall := self._wall_after(wall)) is not None:
            instant = instant_of(wall, self.zone)
            if instant > moment:
                return instant
        return None

    def _interval(self, moment: datetime) -> datetime | None:
        """Walk from one change of the clocks to the next: between them walls are instants."""
        while True:
            offset = _offset(moment, self.zone)
            wall = self._wall_after((moment + offset).replace(tzinfo=None))
            if wall is None:
                return None
            instant = wall.replace(tzinfo=UTC) - offset
            change = _first_change(moment, instant, self.zone)
            if change is None:
                return instant
            offset = _offset(change, self.zone)
            if self.matches((change + offset).replace(tzinfo=None)):
                return change
            moment = change

    def _wall_after(self, wall: datetime) -> datetime | None:
        walk = copy(self._walls)
        walk.dt = wall.replace(microsecond=0)
        try:
            return next(walk)
        except (StopIteration, OverflowError, ValueError):  # a year beyond 9999
            return None


@lru_cache(4_096)
def cron(expression: str, tz: str = "UTC") -> Cron:
    """Return what `expression` means in the IANA time zone `tz`.

    Raises `InvalidOption` for an expression that is malformed, has seconds or never fires, and for
    an unknown zone.
    """
    return Cron(expression, tz)


def time_zone(tz: str) -> ZoneInfo:
    """Return an IANA time zone. Raises `InvalidOption`."""
    try:
        if tz != "localtime":  # each machine would mean another one
            return ZoneInfo(tz)
        raise ValueError(tz)
    except (OSError, ValueError, KeyError):  # what zoneinfo raises, by how wrong the key is
        raise InvalidOption(
            f"tz={tz!r} is not a time zone of the IANA database, e.g. Europe/Berlin or UTC"
        ) from None


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the UTC instant at which clocks first show `wall` (naive); within a gap, the instant
    at which they leap over it."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(first, zone) == wall:
        return first
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change_within(before, first, zone)


def is_shown_twice(wall: datetime, zone: ZoneInfo) -> bool:
    """Say whether clocks in `zone` show `wall` (naive) at two instants."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return second > first


def _fields(expression: str) -> list[str]:
    text = expression.strip()
    if text.startswith("@"):
        spelled = NICKNAMES.get(text.lower())
        if spelled is None:
            raise InvalidOption(
                f"cron={expression!r}: the nicknames are {', '.join(NICKNAMES)}; "
                "for every N seconds there is every(N)"
            )
        text = spelled
    return text.split()


def _parse(expression: str) -> CronSim:
    if len(expression) > MAX_LENGTH:
        raise InvalidOption(f"cron={expression[:20]!r}… is longer than {MAX_LENGTH} characters")
    fields = _fields(expression)
    if len(fields) in {6, 7}:
        raise InvalidOption(
            f"cron={expression!r} has {len(fields)} fields: a field for seconds or years is not "
            f"cron, five are ({_FIELDS}); for every N seconds there is every(N)"
        )
    if len(fields) != 5:
        raise InvalidOption(f"cron={expression!r} has {len(fields)} field(s), not five: {_FIELDS}")
    never = InvalidOption(f"cron={expression!r} never fires: no month has such a day")
    try:
        walls = CronSim(" ".join(fields), _START)
    except CronSimError as exc:
        if _impossible_day(fields):
            raise never from None
        raise _malformed(expression, fields, str(exc)) from None
    except (AssertionError, ValueError, KeyError, TypeError):
        raise _malformed(expression, fields, "") from None
    try:
        next(copy(walls))
    except StopIteration:
        raise never from None
    return walls


def _impossible_day(fields: list[str]) -> bool:
    """Whether every field is fine by itself: cronsim refuses 30 February as a bad day."""
    try:
        CronSim(" ".join([*fields[:3], "*", fields[4]]), _START)
    except (CronSimError, AssertionError, ValueError, KeyError, TypeError):
        return False
    try:
        CronSim(" ".join(["0", "0", "1", fields[3], "*"]), _START)
    except (CronSimError, AssertionError, ValueError, KeyError, TypeError):
        return False
    return True


def _malformed(expression: str, fields: list[str], why: str) -> InvalidOption:
    named = dict(zip(_FIELDS.split(), fields, strict=True))
    name = why.removeprefix("Bad ")
    part = f"{name} {named[name]!r} makes no sense" if name in named else "it makes no sense"
    return InvalidOption(f"cron={expression!r}: {part} (five fields: {_FIELDS})")


# -- instants and walls


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _first_change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first instant in (start, end] with another offset than `start`: no zone changes
    its clocks and changes them back within a day."""
    offset = _offset(start, zone)
    while start < end:
        step = min(start + _DAY, end)
        if _offset(step, zone) != offset:
            return _change_within(start, step, zone)
        start = step
    return None


def _change_within(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant of the change between two instants of different offsets."""
    old = _offset(before, zone)
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, UTC), zone) == old:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
