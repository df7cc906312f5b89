"""The part that evaluates and delivers; of all replicas one does it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import Event
from conveyor_console.alerts.evaluating import Evaluation
from conveyor_console.alerts.measures import Roll, Window, look
from conveyor_console.alerts.models import Alert, AlertChannel, AlertDelivery, AlertRule
from conveyor_console.alerts.telling import Message, Teller, message_of
from conveyor_console.console import Console
from conveyor_console.kit.outgoing import NotSent, Refused
from conveyor_console.kit.retrying import next_try
from conveyor_console.kit.rounds import Rounds
from conveyor_console.kit.sealing import CannotOpen
from conveyor_console.live import notices

EVERY = 5.0
"""Seconds between evaluations."""
_LEADERSHIP = 20.0
_AT_ONCE = 20
_PRUNE_EVERY = 120
KEPT = timedelta(days=90)
"""How long resolved alerts stay."""


class Alerting:
    """Evaluates rules and tells of alerts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._holder = f"console-{console.new_id()}"
        self._window = Window()
        self._roll = Roll()
        self._rounds = Rounds("alerts", lambda: EVERY, self.round)
        self._leads = False
        self._evaluations = 0
        self.open = 0
        """Alerts that are open, as this process last saw it."""

    async def start(self) -> None:
        """Begin."""
        self._console.live.feed.readers.append(self._count)
        self._rounds.start()

    async def close(self) -> None:
        """End, and let another replica take over."""
        await self._rounds.close()
        if self._leads:
            self._leads = False
            client = await self._console.queue.client()
            await client.broker.lead("console-alerts", self._holder, 0)

    def wake(self) -> None:
        """Evaluate at once: a rule was changed."""
        self._rounds.wake()

    async def round(self) -> None:
        """Evaluate and deliver, when this process is the one that does."""
        client = await self._console.queue.client()
        led = await client.broker.lead("console-alerts", self._holder, _LEADERSHIP)
        self._leads = led is not None
        if self._leads:
            await self.evaluate()
            await self.deliver()

    async def evaluate(self) -> None:
        """Evaluate all rules once."""
        console = self._console
        now = console.clock.now()
        changes = self._window.at(console.clock.monotonic())
        seen = await look(console.queue, now, changes, self._roll)
        async with console.database.writing() as db:
            self.open = await Evaluation(db, console.new_id, now).run(seen)
            if self._evaluations % _PRUNE_EVERY == 0:
                await notices.prune(db, now)
                await db.execute(delete(Alert).where(Alert.resolved_at < now - KEPT))
            self._evaluations += 1

    async def deliver(self) -> None:
        """Try every delivery that is due."""
        now = self._console.clock.now()
        async with self._console.database.reading() as db:
            due = (
                await db.execute(
                    select(AlertDelivery, AlertChannel, Alert, AlertRule)
                    .join(AlertChannel, AlertChannel.id == AlertDelivery.channel_id)
                    .join(Alert, Alert.id == AlertDelivery.alert_id)
                    .join(AlertRule, AlertRule.id == Alert.rule_id)
                    .where(AlertDelivery.next_at <= now)
                    .order_by(AlertDelivery.next_at)
                    .limit(_AT_ONCE)
                )
            ).all()
        if not due:
            return
        failures = await asyncio.gather(
            *(
                self.tell(channel, message_of(delivery, alert, rule))
                for delivery, channel, alert, rule in due
            )
        )
        async with self._console.database.writing() as db:
            for (delivery, *_), failure in zip(due, failures, strict=True):
                await self._note(db, delivery.id, failure)

    async def tell(self, channel: AlertChannel, message: Message) -> str | None:
        """Tell a channel; returns what went wrong."""
        try:
            target = self._console.vault.open(channel.target_sealed, f"channel:{channel.id}")
            teller = Teller(self._console.settings, self._console.outgoing)
            await teller.tell(channel, target, message)
        except (Refused, NotSent, CannotOpen) as exc:
            return str(exc)[:500] or type(exc).__name__
        return None

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
