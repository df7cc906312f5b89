"""From what happened to deliveries: one per endpoint and topic, written together with how far it
was read, so a crash neither forgets nor repeats one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import Event
from conveyor_console.live import frames, notices
from conveyor_console.webhooks.models import Webhook, WebhookCursor, WebhookDelivery

TASK_TOPICS = {
    "succeeded": "task.succeeded",
    "failed": "task.failed",
    "cancelled": "task.cancelled",
}
TOPICS = (
    *TASK_TOPICS.values(),
    "alerts.firing",
    "alerts.acknowledged",
    "alerts.resolved",
    "alerts.delivery_failed",
    "webhooks.failed",
)
"""What an endpoint can be told of."""
MOST_TASKS = 100
"""Tasks that one delivery names."""
_SINGLE = 1
_STALE = timedelta(minutes=1)
"""How old a notice may be that was not told yet."""


class Collector:
    """Makes deliveries within one transaction."""

    def __init__(self, db: AsyncSession, new_id: Callable[[], str], now: datetime) -> None:
        self._db = db
        self._new_id = new_id
        self._now = now

    async def cursor(self, newest: str, store: str) -> WebhookCursor:
        """Return how far it was told; at the very first time, and of another store than before:
        until now."""
        found = await self._db.get(WebhookCursor, _SINGLE)
        if found is None:
            found = WebhookCursor(id=_SINGLE, events=newest, notices=self._now, store=store)
            self._db.add(found)
        if found.store != store:
            if found.store:
                found.events = newest
            found.store = store
        return found

    async def endpoints(self) -> list[Webhook]:
        """Return those that are told."""
        return list(await self._db.scalars(select(Webhook).where(Webhook.enabled)))

    def tell_of_tasks(self, events: Sequence[Event], endpoints: Iterable[Webhook]) -> None:
        """Tell of tasks that ended, up to `MOST_TASKS` at a time."""
        for state, topic in TASK_TOPICS.items():
            wanted = [one for one in endpoints if topic in one.topics]
            ended = [event for event in events if event.state == state] if wanted else []
            for start in range(0, len(ended), MOST_TASKS):
                some = ended[start : start + MOST_TASKS]
                data = {"count": len(some), "tasks": frames.changes(some)["tasks"]}
                # The id too: a store that began anew numbers its events from the beginning.
                source = f"{topic[5:]}:{some[0].id}:{some[0].cursor}"
                for endpoint in wanted:
                    self.add(endpoint.id, topic, data, source)

    async def tell_of_notices(self, cursor: WebhookCursor, endpoints: Sequence[Webhook]) -> None:
        """Tell of what happened in the console itself."""
        # What was there before the first reading is old; what is late was not told yet.
        async for page in notices.pages(self._db, cursor.notices - notices.LATE):
            known = await self._told([one.id for one in page])
            for one in page:
                for endpoint in endpoints:
                    fresh = (endpoint.id, one.id) not in known and one.at >= endpoint.created_at
                    if fresh and one.topic in endpoint.topics:
                        self.add(endpoint.id, one.topic, one.data, one.id, at=one.at)
                cursor.notices = max(cursor.notices, one.at)
        # Else the last one would be news for who asks for its topic days later.
        cursor.notices = max(cursor.notices, self._now - _STALE)

    async def _told(self, sources: Sequence[str]) -> set[tuple[str, str]]:
        rows = await self._db.execute(
            select(WebhookDelivery.webhook_id, WebhookDelivery.source).where(
                WebhookDelivery.source.in_(sources or [""])
            )
        )
        return {(webhook_id, source) for webhook_id, source in rows}

    def add(
        self,
        webhook_id: str,
        topic: str,
        data: object,
        source: str,
        *,
        at: datetime | None = None,
    ) -> WebhookDelivery:
        """Make a delivery that is due now."""
        delivery_id = self._new_id()
        body = {"id": delivery_id, **frames.notice(topic, (at or self._now).isoformat(), data)}
        return self._pending(webhook_id, topic, orjson.dumps(body).decode(), source, delivery_id)

    def again(self, before: WebhookDelivery) -> WebhookDelivery:
        """Make a delivery of the same body, id and all: a receiver that had it knows it."""
        delivery_id = self._new_id()
        made = self._pending(
            before.webhook_id, before.topic, before.body, f"replay:{delivery_id}", delivery_id
        )
        made.replay_of = before.replay_of or before.id
        return made

    def _pending(
        self, webhook_id: str, topic: str, body: str, source: str, delivery_id: str
    ) -> WebhookDelivery:
        made = WebhookDelivery(
            id=delivery_id,
            webhook_id=webhook_id,
            source=source[:80],
            topic=topic,
            body=body,
            state="pending",
            attempts=0,
            next_at=self._now,
            created_at=self._now,
        )
        self._db.add(made)
        return made
