"""What may be said of a task at its definition or at enqueue, checked where it is said."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import msgspec

from conveyor.core.errors import InvalidOption
from conveyor.core.retry import MAX_DELAY
from conveyor.core.task import HIGHEST_PRIORITY, LOWEST_PRIORITY, PRIORITIES

_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}\Z")
MAX_KEY = 256


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Resolved options of one enqueue."""

    queue: str = "default"
    priority: int = 5
    max_attempts: int = 5
    retry_base: float = 2.0
    retry_cap: float = 600.0
    timeout: float | None = None
    result_ttl: float = 86_400.0
    key: str | None = None
    delay: float | None = None
    due_at: float | None = None
    headers: dict[str, str] = {}


def queue_name(value: str) -> str:
    """Return a valid queue name. Raises `InvalidOption`."""
    if not _QUEUE.match(value):
        raise InvalidOption(
            f"queue={value!r}: up to 100 letters, digits, '_', '-', '.' or ':', "
            "beginning with a letter, digit or '_'"
        )
    return value


def priority_level(value: int | str) -> int:
    """Return 0–9 for a number or one of low, normal, high, critical. Raises `InvalidOption`."""
    level = PRIORITIES.get(value) if isinstance(value, str) else value
    if level is None or isinstance(level, bool) or not LOWEST_PRIORITY <= level <= HIGHEST_PRIORITY:
        raise InvalidOption(
            f"priority={value!r}: a whole number from 0 to 9 (9 runs first) or one of "
            f"{', '.join(PRIORITIES)}"
        )
    return level


def seconds(value: float | timedelta, name: str, *, least: float = 0.0) -> float:
    """Return a duration in seconds within `least` and one year. Raises `InvalidOption`."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise InvalidOption(f"{name}={value!r}: seconds or a timedelta")
    if not least <= number <= MAX_DELAY:
        above = "at least 0" if least == 0 else "above 0"
        raise InvalidOption(f"{name}={value!r}: {above} and at most one year")
    return float(number)


def instant(value: datetime) -> float:
    """Return epoch seconds of an aware datetime. Raises `InvalidOption` for a naive one."""
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidOption(f"at={value!r}: a datetime with a time zone, e.g. datetime.now(UTC)")
    return value.timestamp()


def idempotency_key(value: str) -> str:
    """Return a usable key. Raises `InvalidOption`."""
    if not value or len(value) > MAX_KEY:
        raise InvalidOption(f"key of {len(value)} characters: from 1 to {MAX_KEY}")
    return value
