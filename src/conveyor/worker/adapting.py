"""What a worker does when the other side of a limit that adapts refuses."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from conveyor.brokers.adapting import slow_down
from conveyor.brokers.clock import broker_time
from conveyor.core.errors import BrokerError

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.core.limits import Rate

log = logging.getLogger("conveyor.worker")


async def slower(app: Conveyor, rate: Rate) -> None:
    """Slow a limit down after a refusal; a broker that cannot be told is no task's trouble."""
    if rate.adapt is None or rate.name is None:
        return
    try:
        broker = (await app.client()).broker
        now = await broker_time(broker, app.clock.time())
        told = await slow_down(broker, rate.name, rate.per_second, rate.adapt, now)
    except BrokerError as exc:
        log.warning("limit %r was not slowed down: %s", rate.name, exc)
    else:
        if told is not None:
            log.info("limit %r was refused: %.3g tokens per second from now on", rate.name, told)
