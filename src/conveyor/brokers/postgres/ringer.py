"""Ringing for pushed tasks, after their commit and on a connection of its own.

PostgreSQL lets one transaction with notifications commit at a time, in the whole cluster, and holds
the others up while that one is written to disk. A transaction of nothing but notifications has
nothing to write. Who dies in between leaves it to the workers' own poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from conveyor.brokers.postgres.connection import READING, Connection, Link
from conveyor.brokers.postgres.options import Location
from conveyor.brokers.postgres.statements import statements
from conveyor.core.errors import ConveyorError

_RING = statements("leases")["ring"]


class Ringer:
    """Rings the bells of queues: one statement at a time, for all that came up meanwhile."""

    def __init__(self, location: Location) -> None:
        self._link = Link(location, {**READING, "synchronous_commit": "off"})
        self._queues: set[str] = set()
        self._ringing: asyncio.Task[None] | None = None

    def ring(self, queues: Iterable[str]) -> None:
        """Ring soon; never waits and never fails."""
        self._queues.update(queues)
        if self._queues and (self._ringing is None or self._ringing.done()):
            self._ringing = asyncio.create_task(self._ring(), name="conveyor-ringer")

    async def _ring(self) -> None:
        while self._queues:
            queues, self._queues = sorted(self._queues), set()

            async def notify(connection: Connection, queues: list[str] = queues) -> None:
                await connection.execute(_RING, queues)

            with suppress(ConveyorError):
                await self._link.run(notify)

    async def close(self) -> None:
        """Ring for what is left, then let go of the connection."""
        if self._ringing is not None:
            await asyncio.gather(self._ringing, return_exceptions=True)
        await self._link.close()
