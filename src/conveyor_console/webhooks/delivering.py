"""The part that collects and sends; of all replicas one does it at a time."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.errors import InvalidOption
from conveyor_console.console import Console
from conveyor_console.history.identity import identify
from conveyor_console.kit.lanes import Lanes, Tried, answered_of
from conveyor_console.kit.leading import LedRounds
from conveyor_console.kit.outgoing import NotSent, Refused
from conveyor_console.kit.retrying import next_try, reason
from conveyor_console.kit.sealing import CannotOpen
from conveyor_console.live import notices
from conveyor_console.webhooks.collecting import TASK_TOPICS, Collector
from conveyor_console.webhooks.models import Webhook, WebhookDelivery
from conveyor_console.webhooks.signing import HEADER, signature

log = logging.getLogger("conveyor.console")
EVERY = 1.0
_EVENTS = 5_000
KEPT = timedelta(days=30)
"""How long deliveries that are over stay."""
_PRUNE_EVERY = 600


class Sent(NamedTuple):
    """How a try went."""

    status: int | None
    error: str | None
    answered: bool | None
    """Whether the endpoint answered at all; None: it was not reached out to."""


class Delivering:
    """Tells the endpoints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rounds = LedRounds(
            "webhooks",
            lambda: EVERY,
            self._turn,
            queue=console.queue,
            role="console-webhooks",
            holder=f"console-{console.new_id()}",
            wanted=self._has_endpoints,
        )
        self._lanes = Lanes("webhooks", console.clock, self._send, lambda: self._rounds.leads)
        self._round = 0

    async def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def close(self) -> None:
        """End, and let another replica take over."""
        await self._lanes.close()
        await self._rounds.close()

    def wake(self) -> None:
        """Send at once."""
        self._rounds.wake()

    async def round(self) -> None:
        """Make a round and wait until everything was sent."""
        await self._rounds.turn()
        await self._lanes.settled()

    async def _has_endpoints(self) -> bool:
        async with self._console.database.reading() as db:
            return await db.scalar(select(Webhook.id).limit(1)) is not None

    async def _turn(self) -> None:
        try:
            await self.collect()
        finally:
            await self._start_lanes()

    async def collect(self) -> None:
        """Make deliveries of what happened since the last time."""
        console = self._console
        inspector = await console.queue.inspector()
        store = await identify(await console.queue.client(), console.new_id)
        newest = await inspector.newest()
        self._round += 1
        async with console.database.writing() as db:
            collector = Collector(db, console.new_id, console.clock.now())
            cursor = await collector.cursor(newest, store)
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
        """Try every delivery that is due, if this process leads, and wait for how it goes."""
        if await self._rounds.lead():
            await self._start_lanes()
            await self._lanes.settled()

    async def _start_lanes(self) -> None:
        of = WebhookDelivery.webhook_id == Webhook.id
        due = exists().where(of, WebhookDelivery.next_at <= self._console.clock.now())
        async with self._console.database.reading() as db:
            self._lanes.start(await db.scalars(select(Webhook.id).where(Webhook.enabled, due)))

    async def _send(self, webhook_id: str, most: int) -> Tried:
        """Send an endpoint what is due."""
        now = self._console.clock.now()
        async with self._console.database.reading() as db:
            endpoint = await db.get(Webhook, webhook_id)
            if endpoint is None or not endpoint.enabled:
                return Tried(0, None)
            found = await db.scalars(
                select(WebhookDelivery)
                .where(WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.next_at <= now)
                .order_by(WebhookDelivery.next_at)
                .limit(most)
            )
            due = found.all()
        sent = await asyncio.gather(*(self._try(one, endpoint) for one in due))
        if due:
            async with self._console.database.writing() as db:
                for one, how in zip(due, sent, strict=True):
                    await self._note(db, one.id, how)
        return Tried(len(due), answered_of(how.answered for how in sent))

    async def _try(self, one: WebhookDelivery, endpoint: Webhook) -> Sent:
        try:
            body = one.body.encode()
            at = int(self._console.clock.now().timestamp())
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "Conveyor-Webhooks/1",
                "Conveyor-Delivery": one.id,
                "Conveyor-Topic": one.topic,
                HEADER: signature(self._secrets(endpoint), body, at),
            }
            answer = await self._console.outgoing.post(endpoint.url, body, headers)
        except NotSent as exc:
            return Sent(None, reason(exc), answered=False)
        except (Refused, CannotOpen) as exc:
            return Sent(None, reason(exc), answered=None)
        except Exception as exc:
            # Of one delivery: the others are sent all the same.
            log.warning("delivery %s could not be sent: %s", one.id, exc, exc_info=exc)
            why = f"an unexpected error ({type(exc).__name__}): see the log"
            return Sent(None, why, answered=None)
        error = None if answer.good else f"the answer was {answer.status}"
        return Sent(answer.status, error, answered=True)

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
        row.status_code, row.error = how.status, how.error
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
