"""Moments: the queue counts epoch seconds, the API says ISO 8601 in UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from conveyor_console.kit.wire import Instant

Until = Annotated[
    Instant | None, Field(description="An ISO 8601 time with its zone; null: without end.")
]


def moment(at: float | None) -> datetime | None:
    """Return a moment in UTC; None for none, and for one that never comes."""
    return None if at is None or at == math.inf else since(at)


def utc(at: datetime) -> datetime:
    """Return a moment with its zone: UTC when none was given."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def since(at: float) -> datetime:
    """Return a moment in UTC that is known to be one; beyond the years 1 to 9999 the last or first
    one that there is."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):  # a task may be due in the year 10000
        return datetime.max.replace(tzinfo=UTC) if at > 0 else datetime.min.replace(tzinfo=UTC)
