"""The real clock, dice and ids: the only module that reads them."""

from __future__ import annotations

import random
from time import monotonic, time

from uuid_utils import uuid7


class SystemClock:
    """The machine's clocks."""

    time = staticmethod(time)
    monotonic = staticmethod(monotonic)


def new_id() -> str:
    """Make a UUIDv7 (RFC 9562): unique, and sortable by the millisecond it was made in."""
    return str(uuid7())


dice = random.Random().random  # noqa: S311 - spreads retries, guards nothing
