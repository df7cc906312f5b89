"""The part that collects and sends; of all replicas one does it at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.errors import InvalidOption
from conveyor_console.console import Console
from conveyor_console.kit.outgoing import NotSent, Refused
from conveyor_console.kit.retrying import next_try
from conveyor_console.kit.rounds import Rounds
from conveyor_console.kit.sealing import CannotOpen
from conveyor_console.live import notices
from conveyor_console.webhooks.collecting import TASK_TOPICS, Collector
from conveyor_console.webhooks.models import Webhook, WebhookDelivery
from conveyor_console.webhooks.signing import HEADER, signature

EVERY = 1.0
_LEADERSHIP = 20.0
_EVENTS = 5_000
_AT_ONCE = 20
KEPT = timedelta(days=30)
"""How long deliveries that are over stay."""
_PRUNE_EVERY = 600
_ROLE = "console-webhooks"


class Sent(NamedTuple):
    """How a try went."""

    status: int | None
    error: str | None


class Delivering:
    """Tells the endpoints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._holder = f"console-{console.new_id()}"
        self._rounds = Rounds("webhooks", lambda: EVERY, self.round)
        self._leads = False
        self._round = 0

    async def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def close(self) -> None:
        """End, and let another replica take over."""
        await self._rounds.close()
        if self._leads:
            self._leads = False
            client = await self._console.queue.client()
            await client.broker.lead(_ROLE, self._holder, 0)

    def wake(self) -> None:
        """Send at once."""
        self._rounds.wake()

    async def round(self) -> None:
        """Collect and send, when this process is the one that does and there are endpoints."""
        async with self._console.database.reading() as db:
            if not await db.scalar(select(func.count()).select_from(Webhook)):
                return
        client = await self._console.queue.client()
        self._leads = await client.broker.lead(_ROLE, self._holder, _LEADERSHIP) is not None
        if self._leads:
            await self.collect()
            await self.send()

    async def collect(self) -> None:
        """Make deliveries of what happened since the last time."""
        console = self._console
        inspector = await console.queue.inspector()
        newest = await inspector.newest()
        self._round += 1
        async with console.database.writing() as db:
            collector = Collector(db, console.new_id, console.clock.now())
            cursor = await collector.cursor(newest)
            endpoints = await collector.endpoints()
            if any(set(one.topics) & set(TASK_TOPICS.values()) for one in endpoints):
                try:
                    events = await inspector.events(cursor.events, _EVENTS)
                except InvalidOption:
                    # A cursor of another store: the queue moved.
                    events, cursor.events = [], newest
                if events:
                    collector.tell_of_tasks(events, endpoints)
                    cursor.events = events[-1].cursor
                elif await inspector.missed(cursor.events):
                    cursor.events = newest
            else:
                cursor.events = newest
            await collector.tell_of_notices(cursor, endpoints)
            if self._round % _PRUNE_EVERY == 1:
                await self._prune(db)

    async def send(self) -> None:
        """Try every delivery that is due."""
        now = self._console.clock.now()
        async with self._console.database.reading() as db:
            due = (
                await db.execute(
                    select(WebhookDelivery, Webhook)
                    .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
                    .where(WebhookDelivery.next_at <= now, Webhook.enabled)
                    .order_by(WebhookDelivery.next_at)
                    .limit(_AT_ONCE)
                )
            ).all()
        if not due:
            return
        sent = await asyncio.gather(*(self._try(one, endpoint) for one, endpoint in due))
        async with self._console.database.writing() as db:
            for (one, _), how in zip(due, sent, strict=True):
                await self._note(db, one.id, how)
        if len(due) == _AT_ONCE:
            self.wake()

    async def _try(self, one: WebhookDelivery, endpoint: Webhook) -> Sent:
        body = one.body.encode()
        at = int(self._console.clock.now().timestamp())
        try:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "Conveyor-Webhooks/1",
                "Conveyor-Delivery": one.id,
                "Conveyor-Topic": one.topic,
                HEADER: signature(self._secrets(endpoint), body, at),
            }
            answer = await self._console.outgoing.post(endpoint.url, body, headers)
        except (Refused, NotSent, CannotOpen) as exc:
            return Sent(None, str(exc)[:500] or type(exc).__name__)
        error = None if answer.good else f"the answer was {answer.status}"
        return Sent(answer.status, error)

    def _secrets(self, endpoint: Webhook) -> list[str]:
        """The secrets that sign: during a rotation the former one too."""
        vault, purpose = self._console.vault, f"webhook:{endpoint.id}"
        found = [vault.open(endpoint.secret_sealed, purpose)]
        until = endpoint.former_until
        if endpoint.former_sealed and until and until > self._console.clock.now():
            found.append(vault.open(endpoint.former_sealed, purpose))
        return found

    async def _note(self, db: AsyncSession, delivery_id: str, how: Sent) -> None:
        """Write down how a try ended."""
        row = await db.get(WebhookDelivery, delivery_id)
        if row is None:
            return
        now = self._console.clock.now()
        row.attempts += 1
        row.status_code, row.error = how
        if how.error is None:
            row.state, row.next_at, row.delivered_at = "delivered", None, now
            return
        row.next_at = next_try(row.attempts, now)
        if row.next_at is None:
            row.state = "failed"
            if row.topic != "webhooks.failed":
                data = {"webhook_id": row.webhook_id, "delivery_id": row.id, "error": how.error}
                notices.add(db, self._console.new_id(), now, "webhooks.failed", data)

    async def _prune(self, db: AsyncSession) -> None:
        old = self._console.clock.now() - KEPT
        await db.execute(
            delete(WebhookDelivery).where(
                WebhookDelivery.next_at.is_(None), WebhookDelivery.created_at < old
            )
        )
