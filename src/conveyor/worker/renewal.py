"""Keeps the leases of the children: on the supervisor's own connection, beyond the reach of what
user code does to their processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from conveyor.core.errors import BrokerError
from conveyor.keeper.pauses import Pauses
from conveyor.worker.obeying import obey

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.worker.offspring import Offspring
    from conveyor.worker.settings import WorkerSettings

log = logging.getLogger("conveyor.worker")


class Renewals:
    """Renews one lease per child, through every outage of the broker."""

    def __init__(
        self, broker: Broker, settings: WorkerSettings, clock: Clock, dice: Callable[[], float]
    ) -> None:
        self._broker = broker
        self._settings = settings
        self._clock = clock
        self._dice = dice
        self.reachable_since: float | None = clock.monotonic()
        """Since when every call was answered (monotonic), None while the broker is away."""

    async def first(self, child: Offspring) -> None:
        """Make the lease, before the child may lease tasks under it. Waits for the broker."""
        await self._renew_at_last(child)

    async def keep(self, child: Offspring) -> None:
        """Renew until cancelled or the lease turns out to be lost. A call that fails is repeated
        soon: the lease itself bounds what the child does meanwhile.
        """
        while not child.disowned:
            await asyncio.sleep(self._settings.renew_every)
            await self._renew_at_last(child)

    async def _renew_at_last(self, child: Offspring) -> None:
        pauses = Pauses(self._dice)
        while True:
            try:
                await self._renew(child)
            except BrokerError as exc:
                self._away(exc)
                await asyncio.sleep(pauses.next())
            else:
                self._back()
                return

    async def _renew(self, child: Offspring) -> None:
        sent = self._clock.monotonic()
        answers = await self._broker.renew([child.token], self._settings.lease, child.info())
        renewal = answers[child.token]
        if not renewal.alive:
            log.error(
                "the lease of child %d ran out and its tasks were given away: starting another",
                child.pid,
            )
            child.disown()
            return
        # From the sending on, not from the answer: the broker's lease never ends before ours.
        child.board.lease_until = sent + self._settings.lease
        if renewal.cancels:
            child.cancel(renewal.cancels)
        if child.went_at is not None and await obey(self._broker, child):
            # What has become of it is to be seen at once.
            await self._renew(child)

    def _away(self, exc: BrokerError) -> None:
        if self.reachable_since is not None:
            self.reachable_since = None
            log.warning("the broker cannot be reached, trying on: %s", exc)

    def _back(self) -> None:
        if self.reachable_since is None:
            self.reachable_since = self._clock.monotonic()
            log.info("the broker is back")
