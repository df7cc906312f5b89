"""Limits that find their rate: additive increase, multiplicative decrease. Pure.

When the other side refuses (429, `Retry-After`), the rate is multiplied by `factor`, at most once a
second: one congestion is one sign of it, however many tasks it hits. Without trouble it grows in a
straight line until it is the stated one again (Chiu and Jain, "Analysis of the increase and
decrease algorithms for congestion avoidance", 1989).
"""

from __future__ import annotations

from datetime import timedelta
from math import isclose

import msgspec

from conveyor.core.amounts import is_number, per_second, seconds
from conveyor.core.errors import InvalidOption
from conveyor.core.retry import retry_after

HOLD = 1.0
"""Seconds in which further refusals are the same trouble."""
STEPS = 20
"""Raises from nothing to the stated rate: each lets every lane of the limit look again."""
_REFUSED = {429, 503}


class Adapt(msgspec.Struct, frozen=True):
    """How a rate follows what the other side bears.

    It never falls below `least` (as in `Rate`); a refusal multiplies it by `factor`; in `recover`
    seconds without one it would grow from nothing to the stated rate. Raises `InvalidOption`.
    """

    least: str = "1/s"
    factor: float = 0.5
    recover: float | timedelta = 60.0

    def __post_init__(self) -> None:
        """Refuse what would never slow down, or never recover."""
        if per_second(self.least) <= 0:
            raise InvalidOption(f"Adapt(least={self.least!r}): above 0")
        if not is_number(self.factor) or not 0 < self.factor < 1:
            raise InvalidOption(f"Adapt(factor={self.factor!r}): above 0 and below 1")
        seconds(self.recover, "recover", least=1.0)


class Learned(msgspec.Struct, frozen=True):
    """What is known of a limit that adapts: rates are tokens per second, times the broker's."""

    stated: float
    least: float
    factor: float
    recover: float
    rate: float
    """At the last refusal, after it."""
    at: float
    """When that was; minus infinity: never."""
    applied: float
    """What the store was last told."""
    before: float | None
    """What it was told before that: whoever told it may have died in between."""


def fresh(stated: float, adapt: Adapt) -> Learned:
    """Return what is known before the first refusal."""
    return Learned(
        stated=stated,
        least=min(stated, per_second(adapt.least)),
        factor=float(adapt.factor),
        recover=seconds(adapt.recover, "recover", least=1.0),
        rate=stated,
        at=float("-inf"),
        applied=stated,
        before=None,
    )


def carried(learned: Learned, stated: Learned) -> Learned:
    """Return what was learned, under the numbers that the code states now."""
    return msgspec.structs.replace(
        stated,
        rate=min(learned.rate, stated.stated),
        at=learned.at,
        applied=learned.applied,
        before=learned.before,
    )


def rate_at(learned: Learned, now: float) -> float:
    """Return the rate by now: what it was after the last refusal, and what it grew since."""
    if learned.rate >= learned.stated:
        return learned.stated
    grown = learned.stated / learned.recover * max(0.0, now - learned.at)
    return min(learned.stated, learned.rate + grown)


def refused(learned: Learned, now: float) -> Learned | None:
    """Slow down; None when that was done for the same trouble already."""
    if now - learned.at < HOLD:
        return None
    rate = max(learned.least, rate_at(learned, now) * learned.factor)
    return _told(msgspec.structs.replace(learned, rate=rate, at=now), rate)


def recovered(learned: Learned, now: float) -> Learned | None:
    """Speed up; None when it is not worth telling the store yet."""
    rate = rate_at(learned, now)
    if rate < learned.stated and rate < learned.applied + learned.stated / STEPS:
        return None
    return _told(learned, rate)


def _told(learned: Learned, rate: float) -> Learned:
    return msgspec.structs.replace(learned, applied=rate, before=learned.applied)


def is_ours(learned: Learned, tuned: float | None) -> bool:
    """Whether the store's rate is the learned one; else a person has pinned it. `tuned` is None
    while nobody has told the store anything."""
    told = (learned.applied, learned.before)
    known = learned.stated if tuned is None else tuned
    return any(rate is not None and isclose(rate, known, rel_tol=1e-6) for rate in told)


def is_refusal(exc: BaseException, now: float) -> bool:
    """Whether the other side asks for less: it says when to come again, or answers 429 or 503. What
    an exception raises when it is looked at is no answer."""
    try:
        return _asks_for_less(exc, now)
    except Exception:  # noqa: BLE001 - properties of user code
        return False


def _asks_for_less(exc: BaseException, now: float) -> bool:
    response = getattr(exc, "response", None)
    codes = (
        getattr(holder, name, None)
        for holder in (exc, response)
        for name in ("status", "status_code")
    )
    return retry_after(exc, now) is not None or any(
        isinstance(code, int) and code in _REFUSED for code in codes
    )
