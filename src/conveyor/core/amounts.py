"""Durations and counts that people give, checked where they are given."""

from __future__ import annotations

from datetime import timedelta

from conveyor.core.errors import InvalidOption

MAX_DELAY = 365 * 86_400.0
"""Seconds that anything may wait or be kept: one year."""


def is_number(value: object) -> bool:
    """Whether it is a number of something: True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def seconds(value: object, name: str, *, least: float = 0.0) -> float:
    """Return a duration (seconds or a timedelta) in seconds, within `least` and one year. Raises
    `InvalidOption`."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise InvalidOption(f"{name}={_shown(value)}: seconds or a timedelta")
    if not least <= number <= MAX_DELAY:
        above = "at least 0" if least == 0 else "above 0"
        raise InvalidOption(f"{name}={_shown(value)}: {above} and at most one year")
    return float(number)


def count(value: object, name: str, *, most: int) -> int:
    """Return a whole number from 1 to `most`. Raises `InvalidOption`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidOption(f"{name}={_shown(value)}: a whole number from 1 to {most}")
    return value


def _shown(value: object) -> str:
    """Return it as an error may quote it: not a thousand digits of it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
