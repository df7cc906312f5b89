"""The part that evaluates and delivers; of all replicas one does it at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import Event
from conveyor_console.alerts import queries
from conveyor_console.alerts.ending import bury_all
from conveyor_console.alerts.evaluating import Evaluation
from conveyor_console.alerts.measures import Roll, Window, look
from conveyor_console.alerts.models import Alert, AlertChannel, AlertDelivery, AlertRule
from conveyor_console.alerts.telling import Message, Teller, message_of
from conveyor_console.console import Console
from conveyor_console.kit.lanes import Lanes, Tried, answered_of
from conveyor_console.kit.leading import LedRounds
from conveyor_console.kit.outgoing import NotSent, Refused
from conveyor_console.kit.retrying import next_try, reason
from conveyor_console.kit.sealing import CannotOpen
from conveyor_console.live import notices

log = logging.getLogger("conveyor.console")
EVERY = 5.0
"""Seconds between evaluations."""
_PRUNE_EVERY = 120
KEPT = timedelta(days=90)
"""How long resolved alerts stay."""


class Told(NamedTuple):
    """How telling went."""

    failure: str | None
    answered: bool | None


class Alerting:
    """Evaluates rules and tells of alerts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._window = Window()
        self._roll = Roll()
        self._rounds = LedRounds(
            "alerts",
            lambda: EVERY,
            self._turn,
            queue=console.queue,
            role="console-alerts",
            holder=f"console-{console.new_id()}",
        )
        self._lanes = Lanes("alerts", console.clock, self._send, lambda: self._rounds.leads)
        self._evaluations = 0
        self.open = 0
        """Alerts that are open, as this process last saw it."""

    async def start(self) -> None:
        """Begin."""
        self._console.live.feed.readers.append(self._count)
        self._rounds.start()

    async def close(self) -> None:
        """End, and let another replica take over."""
        await self._lanes.close()
        await self._rounds.close()

    def wake(self) -> None:
        """Evaluate at once: a rule was changed."""
        self._rounds.wake()

    async def round(self) -> None:
        """Make a round and wait until everybody was told."""
        await self._rounds.turn()
        await self._lanes.settled()

    async def _turn(self) -> None:
        try:
            await self.evaluate()
        finally:
            await self._start_lanes()

    async def evaluate(self) -> None:
        """Evaluate all rules once."""
        console = self._console
        now = console.clock.now()
        changes = self._window.at(console.clock.monotonic())
        seen = await look(console.queue, now, changes, self._roll)
        async with console.database.writing() as db:
            self.open = await Evaluation(db, console.new_id, now).run(seen)
            await queries.give_up_on_disabled(db)
            await bury_all(db)
            if self._evaluations % _PRUNE_EVERY == 0:
                await notices.prune(db, now)
                await db.execute(delete(Alert).where(Alert.resolved_at < now - KEPT))
            self._evaluations += 1

    async def deliver(self) -> None:
        """Try every delivery that is due, if this process leads, and wait for how it goes."""
        if await self._rounds.lead():
            await self._start_lanes()
            await self._lanes.settled()

    async def _start_lanes(self) -> None:
        of = AlertDelivery.channel_id == AlertChannel.id
        due = exists().where(of, AlertDelivery.next_at <= self._console.clock.now())
        ready = select(AlertChannel.id).where(AlertChannel.enabled, due)
        async with self._console.database.reading() as db:
            self._lanes.start(await db.scalars(ready))

    async def _send(self, channel_id: str, most: int) -> Tried:
        """Tell a channel of what is due."""
        async with self._console.database.reading() as db:
            due = await queries.due(db, channel_id, self._console.clock.now(), most)
        told = await asyncio.gather(*(self._try(*one) for one in due))
        if due:
            async with self._console.database.writing() as db:
                for (delivery, *_), one in zip(due, told, strict=True):
                    await self._note(db, delivery.id, one.failure)
        return Tried(len(due), answered_of(one.answered for one in told))

    async def _try(
        self, delivery: AlertDelivery, channel: AlertChannel, alert: Alert, rule: AlertRule
    ) -> Told:
        return await self._tell(channel, lambda: message_of(delivery, alert, rule))

    async def tell(self, channel: AlertChannel, message: Message) -> str | None:
        """Tell a channel; returns what went wrong."""
        return (await self._tell(channel, lambda: message)).failure

    async def _tell(self, channel: AlertChannel, write: Callable[[], Message]) -> Told:
        try:
            target = self._console.vault.open(channel.target_sealed, f"channel:{channel.id}")
            teller = Teller(self._console.settings, self._console.outgoing)
            await teller.tell(channel, target, write())
        except NotSent as exc:
            return Told(reason(exc), answered=exc.answered)
        except (Refused, CannotOpen) as exc:
            return Told(reason(exc), answered=None)
        except Exception as exc:
            # Of one delivery: the others are told all the same.
            log.warning("channel %s could not be told: %s", channel.id, exc, exc_info=exc)
            return Told(f"an unexpected error ({type(exc).__name__}): see the log", answered=None)
        return Told(None, answered=True)

    async def _note(self, db: AsyncSession, delivery_id: str, failure: str | None) -> None:
        """Write down how a try ended. What could not be told is a notice too: somebody sees it."""
        delivery = await db.get(AlertDelivery, delivery_id)
        if delivery is None:
            return
        now = self._console.clock.now()
        delivery.attempts += 1
        delivery.error = failure
        if failure is None:
            delivery.state, delivery.next_at, delivery.delivered_at = "delivered", None, now
            return
        delivery.next_at = next_try(delivery.attempts, now)
        if delivery.next_at is None:
            delivery.state = "failed"
        if delivery.attempts == 1 or delivery.state == "failed":
            data = {
                "alert_id": delivery.alert_id,
                "channel_id": delivery.channel_id,
                "error": failure,
                "attempts": delivery.attempts,
                "given_up": delivery.state == "failed",
            }
            notices.add(db, self._console.new_id(), now, "alerts.delivery_failed", data)

    def _count(self, events: Sequence[Event]) -> None:
        self._window.add(events, self._console.clock.monotonic())
