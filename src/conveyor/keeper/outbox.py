"""Picks up what dead producers left in the outbox: a chore of one worker or keeper at a time.

A producer relays its tasks right after its commit. Those that are still there at the second look
have nobody who cares for them; ids decide that, not clocks. Two relays at work do no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import BrokerError, InvalidOption
from conveyor.system import new_id

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.transactions.database import Database

log = logging.getLogger("conveyor.outbox")
ROLE = "outbox"
EVERY = 0.4
"""Seconds between looks."""
LEADERSHIP, RENEWED = 5.0, 2.0
"""Seconds that a relay leads, and after which it says so again."""
_LONGEST_PAUSE = 5.0
DONE_KEPT = 7 * 86_400.0
"""Seconds that the end of a transactional task is remembered, should its settlement be lost."""


def relay_of(
    app: Conveyor, broker: Broker, clock: Clock, dice: Callable[[], float]
) -> OutboxRelay | None:
    """Return the relay of an app's outbox, or else of the database of its sessions."""
    place = app.outbox
    if place is None and app.sessions is not None:
        place = app.sessions.kw.get("bind")
    return None if place is None else OutboxRelay(broker, place, clock, dice, new_id())


class OutboxRelay:
    """Relays and prunes while it leads. `place` is an engine or URL; `holder` names the relay."""

    def __init__(
        self, broker: Broker, place: object, clock: Clock, dice: Callable[[], float], holder: str
    ) -> None:
        self._broker = broker
        self._place = place
        self._clock = clock
        self._dice = dice
        self._holder = holder
        self._seen: frozenset[str] = frozenset()
        self._ask_at = float("-inf")
        self._leads = False
        self._elsewhere = False

    async def run(self) -> None:
        """Relay until cancelled, through every outage of the broker and the database. What can
        never work is said once, and ends it: nothing else has to wait for that.
        """
        try:
            from conveyor.transactions.database import Database

            database = Database.of(self._place)
        except (ImportError, InvalidOption) as exc:
            log.error("nobody looks after the outbox here: %s", exc)
            return
        try:
            await self._rounds(database)
        finally:
            await database.close()

    async def _rounds(self, database: Database) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        pause = EVERY
        while True:
            try:
                if await self._is_home(database):
                    return
                await self.round(database)
            except (BrokerError, SQLAlchemyError, OSError) as exc:
                log.warning("the outbox waits: %s", exc)
                self._ask_at = float("-inf")
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                pause = EVERY
            await asyncio.sleep(pause * (0.75 + self._dice() / 2))

    async def round(self, database: Database) -> int:
        """Look once; returns how many tasks were relayed. Raises `BrokerError` and SQLAlchemy's
        errors."""
        if not await self._lead(database):
            return 0
        from conveyor.transactions import outbox
        from conveyor.transactions.relay import BATCH, relay

        relayed = 0
        while True:
            parcels = await database.run(lambda c: outbox.take(c, None, BATCH))
            ids = [parcel.id for parcel in parcels]
            # More than a page is a backlog: nobody relays that in time.
            orphans = ids if len(ids) == BATCH else [one for one in ids if one in self._seen]
            self._seen = frozenset(ids)
            if not orphans:
                return relayed
            relayed += await relay(self._broker, database, self._clock, orphans)
            if len(ids) < BATCH:
                log.info("relayed %d task(s) that were left in the outbox", relayed)
                return relayed

    async def _is_home(self, database: Database) -> bool:
        """Whether the broker is in this very database: then nothing is ever in an outbox."""
        if self._elsewhere:
            return False
        from conveyor.transactions.homes import Homes

        homes = Homes(self._broker)
        await homes.prepare(database.engine, ())
        self._elsewhere = await database.run(lambda c: homes.find(c) is None)
        return not self._elsewhere

    async def _lead(self, database: Database) -> bool:
        now = self._clock.monotonic()
        if now < self._ask_at:
            return self._leads
        led = self._leads
        self._leads = await self._broker.lead(ROLE, self._holder, LEADERSHIP) is not None
        self._ask_at = now + RENEWED
        if self._leads and not led:
            self._seen = frozenset()
            await self._prune(database)
        return self._leads

    async def _prune(self, database: Database) -> None:
        """Forget ends that nobody asks for any more. Raises `SchemaMismatch` without the tables."""
        from conveyor.transactions import done, outbox, tables

        old = self._clock.time() - DONE_KEPT

        def prune(connection: Any) -> None:
            outbox.must_be_there(connection, tables.outbox, "tasks for a broker elsewhere wait in")
            done.forget(connection, old)

        await database.run(prune)
