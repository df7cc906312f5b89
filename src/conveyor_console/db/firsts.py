"""What was first asked under a key: another request under it is told from a repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.db.engine import Database
from conveyor_console.db.idempotency import IdempotencyRow
from conveyor_console.kit.clock import Clock

_KEPT = timedelta(hours=1)
_MOST_AT_ONCE = 200


class First(NamedTuple):
    """A key, and what stands for what is asked under it."""

    id: str
    request: str


class Firsts:
    """Keeps the first request of every key for an hour: a task each would be many in a day. Those
    that come while a transaction is made share the next one."""

    def __init__(self, database: Database, clock: Clock, new_id: Callable[[], str]) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._waiting: list[tuple[First, asyncio.Future[bool]]] = []
        self._keeper: asyncio.Task[None] | None = None

    async def is_same(self, first: First) -> bool:
        """Keep it if its key is new; whether its key is for this very request."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((first, future))
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="console-firsts")
        return await future

    async def _keep(self) -> None:
        try:
            while self._waiting:
                some = self._waiting[:_MOST_AT_ONCE]
                self._waiting = self._waiting[_MOST_AT_ONCE:]
                await self._keep_some(some)
        finally:
            self._keeper = None

    async def _keep_some(self, some: Sequence[tuple[First, asyncio.Future[bool]]]) -> None:
        try:
            async with self._database.writing() as db:
                known = await self._known(db, [first for first, _ in some], self._clock.now())
        except Exception as exc:  # noqa: BLE001 - every caller gets it
            for _, future in some:
                if not future.done():
                    future.set_exception(exc)
            return
        for first, future in some:
            if not future.done():
                future.set_result(known[first.id] == first.request)

    async def _known(
        self, db: AsyncSession, firsts: Sequence[First], now: datetime
    ) -> dict[str, str]:
        """Return what was asked first under each key."""
        await db.execute(delete(IdempotencyRow).where(IdempotencyRow.expires_at <= now))
        # In order, so that two replicas do not wait for each other; of two with one key the first.
        new: dict[str, str] = {}
        for one in sorted(firsts, key=lambda one: one.id):
            new.setdefault(one.id, one.request)
        more = {"holder": self._new_id(), "held_until": now, "expires_at": now + _KEPT}
        insert = postgresql.insert if db.get_bind().dialect.name == "postgresql" else sqlite.insert
        rows = [{"id": key, "request": request, **more} for key, request in new.items()]
        await db.execute(insert(IdempotencyRow).on_conflict_do_nothing(), rows)
        columns = (IdempotencyRow.id, IdempotencyRow.request)
        found = await db.execute(select(*columns).where(IdempotencyRow.id.in_(new)))
        return new | {row.id: row.request for row in found}
