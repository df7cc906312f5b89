"""Rounds that one of all replicas makes: the one that leads."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from conveyor import Conveyor
from conveyor.errors import ConveyorError
from conveyor_console.kit.rounds import Rounds

LEADERSHIP = 20.0
"""Seconds after which another takes over from one that died."""


class LedRounds(Rounds):
    """As `Rounds`, but `act` is called in the process that has the `role` only; `wanted` says
    whether there is anything to have it for. Two that believe to lead at once are possible: what
    they write must bear it."""

    def __init__(
        self,
        name: str,
        every: Callable[[], float],
        act: Callable[[], Awaitable[None]],
        *,
        queue: Conveyor,
        role: str,
        holder: str,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        super().__init__(name, every, self.turn)
        self._queue = queue
        self._role = role
        self._holder = holder
        self._led = act
        self._wanted = wanted
        self.leads = False
        """Whether this process led when it last asked."""

    async def turn(self) -> None:
        """Make one round, if this process leads. Raises what it raises."""
        if (self._wanted is None or await self._wanted()) and await self.lead():
            await self._led()

    async def lead(self) -> bool:
        """Take the role, or keep it for another while. Raises `BrokerError`."""
        try:
            self.leads = await self._ask(LEADERSHIP)
        except BaseException:
            self.leads = False
            raise
        return self.leads

    async def close(self) -> None:
        """End, and let another replica take over."""
        await super().close()
        if self.leads:
            self.leads = False
            # Else it runs out by itself.
            with contextlib.suppress(ConveyorError):
                await self._ask(0)

    async def _ask(self, seconds: float) -> bool:
        broker = (await self._queue.client()).broker
        return await broker.lead(self._role, self._holder, seconds) is not None
