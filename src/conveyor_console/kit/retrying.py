"""When to try again what could not be delivered. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

WAITS = (10.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0, 43_200.0)
"""Seconds before the 2nd, 3rd, … try: eight tries over about a day."""


def next_try(attempts: int, now: datetime) -> datetime | None:
    """Return when to try again after so many failed tries; None: no more."""
    return now + timedelta(seconds=WAITS[attempts - 1]) if attempts <= len(WAITS) else None


def reason(failure: BaseException) -> str:
    """Return a failure as a short text that every database can keep."""
    text = str(failure) or type(failure).__name__
    return text.replace("\0", "�").encode("utf-8", "replace").decode()[:500]
