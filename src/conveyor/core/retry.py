"""Retry policy: pure functions from a failure to a number of seconds.

Full jitter: the wait is uniform in [0, min(cap, base·2ⁿ)], which spreads a crowd of failures best
(Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isnan
from typing import Any

import msgspec

from conveyor.core import defaults
from conveyor.core.amounts import MAX_DELAY, count, is_number, seconds
from conveyor.core.errors import InvalidOption

MAX_ATTEMPTS = 1_000_000


class Backoff(msgspec.Struct, frozen=True):
    """Exponential wait with full jitter: uniform in [0, min(cap, base·2ⁿ)] seconds, n from 0."""

    base: float = defaults.RETRY_BASE
    cap: float = defaults.RETRY_CAP

    def __post_init__(self) -> None:
        """Refuse waits that cannot be waited."""
        for value in (self.base, self.cap):
            if not is_number(value) or not 0 <= value <= MAX_DELAY:
                raise InvalidOption(
                    f"backoff base={self.base!r} cap={self.cap!r}: both are seconds from 0 to one "
                    "year"
                )

    def delay(self, attempts_spent: int, dice: float) -> float:
        """Seconds before the attempt after `attempts_spent` failures; `dice` is in [0, 1)."""
        ceiling = min(self.cap, self.base * 2.0 ** min(attempts_spent - 1, 62))
        return max(0.0, ceiling) * dice


class Fail(msgspec.Struct, frozen=True):
    """In a `Retry(on=…)` mapping: this exception is final, the task is dead-lettered at once."""


class Verdict(msgspec.Struct, frozen=True):
    """What the policy says of one exception: `final`, or the wait in seconds before the next
    attempt (None: the task's own backoff).
    """

    final: bool = False
    delay: float | None = None


Directive = Backoff | Fail | float | int
"""What a `Retry(on=…)` entry may be: a backoff of its own, `Fail()`, or fixed seconds."""


class Retry(msgspec.Struct, frozen=True):
    """When and how often a failed task runs again.

    `max_attempts` counts all attempts, the first included. The n-th wait is drawn uniformly from
    [0, min(cap, base·2ⁿ)] seconds. `max_age` (seconds since it was enqueued) ends retrying
    whatever attempts are left. `on` maps exception classes (checked along the MRO, most specific
    first) to `Backoff(...)`, `Fail()`, seconds, or a callable `(exception, attempts_spent) ->`
    one of these or None for the default. A `Retry-After` the exception carries is honoured.

    Raises `InvalidOption` when a value makes no sense.
    """

    max_attempts: int = defaults.MAX_ATTEMPTS
    base: float = defaults.RETRY_BASE
    cap: float = defaults.RETRY_CAP
    max_age: float | None = None
    on: Mapping[
        type[BaseException], Directive | Callable[[BaseException, int], Directive | None]
    ] = {}

    def __post_init__(self) -> None:
        """Refuse a policy that could never run or never end."""
        count(self.max_attempts, "max_attempts", most=MAX_ATTEMPTS)
        Backoff(self.base, self.cap)
        if self.max_age is not None and not (is_number(self.max_age) and self.max_age > 0):
            raise InvalidOption(f"max_age={self.max_age!r}: seconds above 0, or None")
        if not isinstance(self.on, Mapping):
            raise InvalidOption(f"on={self.on!r}: a dict of exception classes, see `Retry`")
        for kind, entry in self.on.items():
            _check_entry(kind, entry)

    def judge(
        self, exc: BaseException, *, attempts_spent: int, age: float, now: float, dice: float
    ) -> Verdict:
        """Say what `exc` means for a task that has spent `attempts_spent` attempts, this one
        included, and was enqueued `age` seconds ago. Pure but for the user's own callables.
        """
        if self.max_age is not None and age >= self.max_age:
            return Verdict(final=True)
        directive = self._directive(exc, attempts_spent)
        if isinstance(directive, Fail):
            return Verdict(final=True)
        if isinstance(directive, (int, float)):
            return Verdict(delay=_bounded(float(directive)))
        asked = retry_after(exc, now)
        if asked is None and directive is not None:
            asked = directive.delay(attempts_spent, dice)
        return Verdict(delay=asked)

    def _directive(self, exc: BaseException, attempts_spent: int) -> Directive | None:
        for cls in type(exc).__mro__:
            if cls in self.on:
                entry = self.on[cls]
                return entry(exc, attempts_spent) if callable(entry) else entry
        return None


def _check_entry(kind: object, entry: object) -> None:
    """Raise `InvalidOption` for an entry of `on` that would fail only when a task does."""
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise InvalidOption(f"on={{{kind!r}: …}}: the keys are exception classes")
    if isinstance(entry, (Backoff, Fail)) or (callable(entry) and not isinstance(entry, type)):
        return
    if not is_number(entry):
        raise InvalidOption(
            f"on={{{kind.__name__}: {entry!r}}}: Backoff(…), Fail(), seconds, or a function of the "
            "exception and the attempts spent"
        )
    seconds(entry, f"on={{{kind.__name__}: …}}, a wait")


def retry_after(exc: BaseException, now: float) -> float | None:
    """Seconds that `exc` asks to wait, or None.

    Looks at `exc.retry_after` (seconds, timedelta-like or aware datetime) and at a `Retry-After`
    header of `exc.response` (RFC 9110 §10.2.3: delay-seconds or HTTP-date).
    """
    asked: Any = getattr(exc, "retry_after", None)
    if asked is None:
        headers: Any = getattr(getattr(exc, "response", None), "headers", None)
        asked = headers.get("Retry-After") if hasattr(headers, "get") else None
    return None if asked is None else _seconds(asked, now)


def _seconds(asked: Any, now: float) -> float | None:
    if hasattr(asked, "total_seconds"):
        return _bounded(asked.total_seconds())
    if isinstance(asked, datetime):
        return _bounded((asked if asked.tzinfo else asked.replace(tzinfo=UTC)).timestamp() - now)
    try:
        return _bounded(float(asked))
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        # Few answers hold a date, and reading one takes a dozen modules.
        from email.utils import parsedate_to_datetime

        return _bounded(parsedate_to_datetime(str(asked)).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def _bounded(seconds: float) -> float | None:
    return None if isnan(seconds) else min(max(0.0, seconds), MAX_DELAY)
