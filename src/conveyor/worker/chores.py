"""What a worker's child does beside its tasks, for all: chores that need the app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from conveyor.keeper.outbox import relay_of

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock


def chores(
    app: Conveyor, broker: Broker, clock: Clock, dice: Callable[[], float]
) -> list[asyncio.Task[None]]:
    """Start them; each runs until it is cancelled."""
    relay = relay_of(app, broker, clock, dice)
    return [] if relay is None else [asyncio.create_task(relay.run(), name="conveyor-outbox")]
