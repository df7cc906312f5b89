"""The supervisor's own connection to the broker, and what it does there beside its children."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from conveyor.brokers.url import opened
from conveyor.core.errors import BrokerError, BrokerUnavailable, ConveyorError
from conveyor.keeper.keeper import Keeper
from conveyor.keeper.pauses import Pauses
from conveyor.worker.crew import Crew, cancelled
from conveyor.worker.memory import give_back
from conveyor.worker.messages import EXIT_UNAVAILABLE, EXIT_USER_ERROR
from conveyor.worker.renewal import Renewals

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

log = logging.getLogger("conveyor.worker")


class Link:
    """An open broker with the renewals that run over it. The keeper lives here too."""

    def __init__(self, broker: Broker, crew: Crew) -> None:
        self.broker = broker
        self.renewals = Renewals(broker, crew.settings, crew.clock, crew.dice)
        self._crew = crew
        self._keeper: asyncio.Task[None] | None = None
        if crew.settings.keeper:
            self._keeper = asyncio.create_task(self._keep_house(), name="conveyor-keeper")

    async def close(self) -> None:
        """Resign as a keeper and disconnect."""
        if self._keeper is not None:
            await cancelled(self._keeper)
        await self.broker.close()

    async def _keep_house(self) -> None:
        crew = self._crew
        lease = crew.settings.lease
        while True:
            keeper = Keeper(self.broker, crew.clock, crew.dice, crew.new_token(), lease=lease)
            try:
                await keeper.run()
            except Exception:
                log.exception("the keeper failed; it starts again in %g s", lease)
                await asyncio.sleep(lease)


class Linker:
    """Opens the link when the first child says where the broker is."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._link: Link | None = None
        self._lock = asyncio.Lock()

    async def link(self, url: str) -> Link | None:
        """Return the link, waiting for the broker; None when it cannot be used or all is ending."""
        async with self._lock:
            pauses = Pauses(self._crew.dice)
            while self._link is None and not self._crew.is_ending:
                try:
                    self._link = await self._open(url)
                except BrokerUnavailable as exc:
                    log.warning("%s", exc)
                    await self._crew.pause(pauses.next())
                except ConveyorError as exc:
                    down = isinstance(exc, BrokerError)
                    self._crew.give_up(str(exc), EXIT_UNAVAILABLE if down else EXIT_USER_ERROR)
        return None if self._crew.is_ending else self._link

    async def close(self) -> None:
        """Close the link if there is one."""
        if self._link is not None:
            await self._link.close()

    async def _open(self, url: str) -> Link:
        broker = await opened(url)
        give_back()
        return Link(broker, self._crew)
