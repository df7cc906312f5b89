"""From the outbox to the broker: at least once with the same ids, so never twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from conveyor.client import conflict_of
from conveyor.core.errors import BrokerError
from conveyor.transactions import outbox

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.connections import Connections
    from conveyor.core.clock import Clock
    from conveyor.core.task import NewTask
    from conveyor.transactions.database import Database
    from conveyor.transactions.outbox import Parcel

log = logging.getLogger("conveyor.outbox")
BATCH = 500
_PAUSES = (0.2, 1.0, 5.0)
"""Seconds between tries of a producer; after them its tasks are left to a worker's relay."""


async def relay(
    broker: Broker, database: Database, clock: Clock, ids: Sequence[str] | None = None
) -> int:
    """Move up to 500 tasks; these, or the oldest. Only rows that are committed are seen, so what
    was rolled back never gets here. Returns how many there were. Raises `BrokerError` and
    SQLAlchemy's errors; whatever it leaves behind is found again.
    """
    parcels = await database.run(lambda c: outbox.take(c, ids, BATCH))
    if not parcels:
        return 0
    now = clock.time()
    answers = await broker.push([_aged(parcel, now) for parcel in parcels])
    refused = []
    for parcel, answer in zip(parcels, answers, strict=True):
        if answer.conflict:
            why = str(conflict_of(answer, parcel.new.task))
            log.error("task %s of the outbox was refused: %s", parcel.id, why)
            refused.append((parcel.id, why))
    kept = {task_id for task_id, _ in refused}
    gone = [parcel.id for parcel in parcels if parcel.id not in kept]
    await database.run(lambda c: outbox.clear(c, gone, refused))
    return len(parcels)


def _aged(parcel: Parcel, now: float) -> NewTask:
    """A delay counts from the enqueue, however long the task was in the outbox."""
    new = parcel.new
    if new.delay is None:
        return new
    return msgspec.structs.replace(new, delay=max(0.0, new.delay - max(0.0, now - parcel.at)))


class Outgoing:
    """What this process stores in an outbox, and relays right after its commits."""

    def __init__(self, app: Connections, database: Database) -> None:
        self._app = app
        self._database = database

    def committed(self, parts: Sequence[Sequence[str]]) -> None:
        """Relay beside the caller. The after-commit hook."""
        ids = [task_id for part in parts for task_id in part]
        self._app.start(relay_own(self._app, self._database, ids))


async def relay_own(app: Connections, database: Database, ids: Sequence[str]) -> None:
    """Relay what this process has just committed, in several tries."""
    for pause in (*_PAUSES, None):
        try:
            broker = (await app.client()).broker
            for start in range(0, len(ids), BATCH):
                await relay(broker, database, app.clock, ids[start : start + BATCH])
        except (BrokerError, SQLAlchemyError, OSError) as exc:
            log.warning("%d task(s) stay in the outbox for now: %s", len(ids), exc)
            if pause is not None:
                await asyncio.sleep(pause)
        else:
            return
