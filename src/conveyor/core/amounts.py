"""Durations and counts that people give, checked where they are given."""

from __future__ import annotations

import re
from datetime import timedelta

from conveyor.core.errors import InvalidOption

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*(s|m|h|d)\s*\Z")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MAX_DELAY = 365 * 86_400.0
"""Seconds that anything may wait or be kept: one year."""


def per_second(text: object) -> float:
    """Return what `50/s`, `100/m` or `5/10s` mean per second. Raises `InvalidOption`."""
    match = _RATE.match(str(text))
    if match is None:
        raise InvalidOption(
            f"Rate({text!r}): a number of tasks per s, m, h or d, e.g. '50/s' or '5/10s'"
        )
    number, every, unit = match.groups()
    per = float(every or 1) * _UNITS[unit]
    if per == 0:
        raise InvalidOption(f"Rate({text!r}): the time must be above 0")
    return float(number) / per


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
