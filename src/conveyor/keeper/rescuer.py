"""Puts tasks back whose worker went silent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from conveyor.brokers.base import Step
from conveyor.core.outcome import Lost
from conveyor.keeper.verdicts import Judge

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock

log = logging.getLogger("conveyor.keeper")
BATCH = 1_000


async def rescue(
    broker: Broker, clock: Clock, dice: Callable[[], float], holder: str, *, batch: int = BATCH
) -> int:
    """Settle as lost every running task whose lease is over, `batch` at a time; returns how many.

    May be killed anywhere: what is not settled yet is found again by the next round.
    """
    rescued = 0
    while holdings := await broker.held(None, batch):
        judge = Judge(now=clock.time(), dice=dice)
        settlements = [judge.settle(holding, Lost()) for holding in holdings]
        reply = await broker.step(Step(holder, (), 0, settlements))
        rescued += len(settlements) - len(reply.refused)
        log.warning(
            "rescued %d task(s) of %d worker(s) that went silent",
            len(settlements) - len(reply.refused),
            len({holding.lease.worker for holding in holdings}),
        )
        if len(holdings) < batch:
            break
    return rescued
