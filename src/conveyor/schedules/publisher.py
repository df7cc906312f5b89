"""Publishes an app's declared schedules beside its work, through outages of the broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from conveyor.core.errors import BrokerError
from conveyor.schedules.deploys import publish

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.schedules.door import Scheduling

log = logging.getLogger("conveyor.schedules")
_FIRST, _LONGEST = 0.5, 30.0


class Publisher:
    """Knows what to publish: the schedules of `app` under `scope`, by a worker that started at
    `born` (epoch seconds)."""

    def __init__(
        self,
        app: Scheduling,
        broker: Broker,
        *,
        scope: str,
        born: float,
        dice: Callable[[], float],
    ) -> None:
        self._app = app
        self._broker = broker
        self._scope = scope
        self._born = born
        self._dice = dice

    async def once(self) -> bool:
        """Publish; returns whether this code's schedules are the current ones."""
        declared = list(self._app.declared.values())
        now = self._app.clock.time()
        return await publish(self._broker, declared, scope=self._scope, born=self._born, now=now)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Publish before the block begins; if the broker refuses, go on trying beside the block."""
        later: asyncio.Task[None] | None = None
        try:
            await self.once()
        except BrokerError as exc:
            log.warning("the schedules of %s are not published yet: %s", self._scope, exc)
            later = asyncio.create_task(self._keep_trying(), name="conveyor-publisher")
        try:
            yield
        finally:
            if later is not None:
                later.cancel()
                await asyncio.wait([later])

    async def _keep_trying(self) -> None:
        pause = _FIRST
        while True:
            await asyncio.sleep(pause * (0.5 + self._dice()))
            pause = min(pause * 2, _LONGEST)
            try:
                await self.once()
            except BrokerError as exc:
                log.debug("still not published: %s", exc)
            else:
                log.info("the schedules of %s are published", self._scope)
                return
