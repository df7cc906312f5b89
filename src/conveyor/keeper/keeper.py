"""The keeper: one loop, and of many keepers only the leader acts.

Leadership saves work, nothing more: were there two leaders, fencing keeps every decision single.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from conveyor.brokers.adapting import speed_up
from conveyor.brokers.base import LEASE_SECONDS
from conveyor.brokers.clock import broker_time
from conveyor.core.errors import BrokerError
from conveyor.flows.sweeper import Sweeper
from conveyor.keeper.effects import EffectBroom
from conveyor.keeper.pauses import Pauses
from conveyor.keeper.rescuer import rescue
from conveyor.keeper.ticker import Ticker
from conveyor.keeper.watch import ClockWatch
from conveyor.maintenance import extend

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock

log = logging.getLogger("conveyor.keeper")
ROLE = "keeper"
EVERY = 1.0
"""Seconds between rounds: a lost task waits for its lease to end, at most this, and a free slot."""
TERM = 5
"""Rounds that leadership lasts, though never longer than `LEADERSHIP`: a leader that dies makes
tasks wait that are lost already."""
LEADERSHIP = 2 / 3
"""Part of a lease that leadership lasts at most: the end of a leader that died together with a
worker is no reason for that worker's tasks to wait longer."""
_GLANCE = 5.0
"""Seconds after which a keeper that does not lead reads the broker's clock again."""
_CHUNK, _CALLS = 1_000, 50


class Keeper:
    """Promotes, prunes, rescues and fires schedules while it leads.

    `holder` names it among all keepers; `lease` (seconds) is the workers' lease, `every` the pause
    between rounds. Schedules have a leader of their own, who is often the same.
    """

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        dice: Callable[[], float],
        holder: str,
        *,
        lease: float = LEASE_SECONDS,
        every: float = EVERY,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._dice = dice
        self._holder = holder
        self._lease = lease
        self._every = every
        self._term = min(every * TERM, lease * LEADERSHIP)
        self._watch = ClockWatch()
        self._flows = Sweeper(broker, clock)
        self._effects = EffectBroom(broker)
        self._trust_from = float("-inf")
        self._broker_time = 0.0
        self._ticker = Ticker(broker, clock, holder)
        self.leading = False

    async def run(self) -> None:
        """Keep house until cancelled, through every outage of the broker; then resign."""
        try:
            async with asyncio.TaskGroup() as chores:
                chores.create_task(self._rounds(), name="conveyor-keeper-rounds")
                chores.create_task(self._ticks(), name="conveyor-keeper-ticks")
        finally:
            await self._resign()

    async def _rounds(self) -> None:
        pauses = Pauses(self._dice)
        while True:
            try:
                await self.round()
            except BrokerError as exc:
                self._watch.failed(self._clock.monotonic())
                log.debug("no round: %s", exc)
                await asyncio.sleep(pauses.next())
            else:
                pauses.reset()
                await asyncio.sleep(self._every)

    async def _ticks(self) -> None:
        """Schedules have a beat of their own: a round that prunes much must not make them late."""
        pauses = Pauses(self._dice)
        while True:
            try:
                wait = await self._ticker.tick()
            except BrokerError as exc:
                log.debug("no tick: %s", exc)
                wait = pauses.next()
            else:
                pauses.reset()
            await asyncio.sleep(wait)

    async def round(self) -> bool:
        """Do one round if this keeper leads; returns whether it does. Raises `BrokerError`."""
        leading = await self._lead()
        if not leading:
            return False
        await extend(self._broker)
        await self._tidy()
        await self._effects.sweep(self._clock.monotonic())
        if self._clock.monotonic() >= self._trust_from:
            await rescue(self._broker, self._clock, self._dice, self._holder)
        await self._flows.round()
        await speed_up(self._broker, self._broker_time)
        return True

    async def _tidy(self) -> None:
        """Tidy until nothing is left, or for as many calls as one round may take: what a busy
        broker finishes must not come in faster than it is pruned.
        """
        for _ in range(_CALLS):
            tidied = await self._broker.tidy(_CHUNK)
            if tidied.promoted or tidied.pruned:
                log.debug("promoted %d, pruned %d", tidied.promoted, tidied.pruned)
            if max(tidied.promoted, tidied.pruned) < _CHUNK:
                return

    async def _lead(self) -> bool:
        asked_at = self._clock.monotonic()
        time = await self._broker.lead(ROLE, self._holder, self._term)
        self._broker_time = time or 0.0
        if time is None:
            self.leading = False
            await self._follow()
            return False
        if not self.leading:
            self.leading = True
            log.debug("leading as %s", self._holder)
        now = self._clock.monotonic()
        why = self._watch.disturbed(time, (asked_at + now) / 2)
        if why is not None:
            log.warning("%s: every lease gets %g s more", why, self._lease)
            await self._broker.grace(self._lease)
            # A lease that a jump has put into the past stays there until its worker renews it.
            self._trust_from = now + self._lease
        return True

    async def _follow(self) -> None:
        """Know what the broker's clock says: when it jumps, the term of the leader is over like
        every lease, and the next leader must not believe it either."""
        self._watch.followed()
        asked_at = self._clock.monotonic()
        if self._watch.age(asked_at) >= _GLANCE:
            time = await broker_time(self._broker, self._clock.time())
            self._watch.read(time, (asked_at + self._clock.monotonic()) / 2)

    async def _resign(self) -> None:
        with suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._ticker.resign()
                if self.leading:
                    await self._broker.lead(ROLE, self._holder, 0)
