"""The broker's clock, for whoever says "in so many seconds" to a store that others read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

_ROLE = "clock"


async def broker_time(broker: Broker, fallback: float) -> float:
    """Return the broker's now, epoch seconds; `fallback` should it have none to tell."""
    # Giving up a role that nobody has: the one verb that answers with the time alone.
    now = await broker.lead(_ROLE, _ROLE, 0.0)
    return fallback if now is None else now
