"""From the outbox to the broker: at least once with the same ids, so never twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from conveyor.client import conflict_of
from conveyor.core.amounts import MAX_DELAY
from conveyor.core.errors import BrokerError
from conveyor.core.task import NewTask, Task
from conveyor.transactions import outbox

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker, Pushed
    from conveyor.connections import Connections
    from conveyor.core.clock import Clock
    from conveyor.transactions.database import Database
    from conveyor.transactions.outbox import Parcel

log = logging.getLogger("conveyor.outbox")
BATCH = 500
_PAUSES = (0.2, 1.0, 5.0)
"""Seconds between tries of a producer; after them its tasks are left to a worker's relay."""


async def relay(
    broker: Broker,
    database: Database,
    clock: Clock,
    ids: Sequence[str] | None = None,
    *,
    on_repeat: Callable[[str, str], object] | None = None,
) -> int:
    """Move up to 500 tasks; these, or the oldest. Only rows that are committed are seen, so what
    was rolled back never gets here. What another task keeps out by its key becomes a dead letter
    with that reason, and of what only repeats an older task `on_repeat` is told both ids. Returns
    how many there were. Raises `BrokerError` and SQLAlchemy's errors; whatever it leaves behind is
    found again.
    """
    parcels = await database.run(lambda c: outbox.take(c, ids, BATCH))
    fresh = [parcel for parcel in parcels if parcel.refused is None]
    dead = [parcel for parcel in parcels if parcel.refused is not None]
    if fresh:
        now = clock.time()
        answers = await broker.push([_aged(parcel, now) for parcel in fresh])
        gone, refused = _sorted(fresh, answers, on_repeat)
        reasons = [(parcel.id, parcel.refused or "") for parcel in refused]
        # Before they are buried: after that, a push under the same id would seem to be accepted.
        await database.run(lambda c: outbox.clear(c, gone, reasons))
        dead += refused
    if dead:
        await _bury(broker, dead)
        await database.run(lambda c: outbox.clear(c, [parcel.id for parcel in dead], ()))
    return len(parcels)


def _sorted(
    parcels: Sequence[Parcel],
    answers: Sequence[Pushed],
    on_repeat: Callable[[str, str], object] | None,
) -> tuple[list[str], list[Parcel]]:
    """Return the ids of what the broker has, and what it refused."""
    gone, refused = [], []
    for parcel, answer in zip(parcels, answers, strict=True):
        if answer.conflict:
            why = str(conflict_of(answer, parcel.new.task))
            log.error("task %s of the outbox is refused, a dead letter: %s", parcel.id, why)
            refused.append(parcel._replace(refused=why))
            continue
        gone.append(parcel.id)
        if not answer.created:
            log.info("task %s of the outbox repeats task %s", parcel.id, answer.id)
            if on_repeat is not None:
                on_repeat(parcel.id, answer.id)
    return gone, refused


async def _bury(broker: Broker, parcels: Sequence[Parcel]) -> None:
    """Store tasks as dead letters, without the keys that others have. May be repeated."""
    await broker.push([NewTask(_without_keys(parcel.new.task), MAX_DELAY) for parcel in parcels])
    for parcel in parcels:
        await broker.cancel([parcel.id], by="the outbox", reason=parcel.refused or "")


def _without_keys(task: Task) -> Task:
    terms = task.terms
    if terms is not None:
        terms = msgspec.structs.replace(terms, unique=None)
    return msgspec.structs.replace(task, key=None, digest=None, terms=terms)


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
            client = await app.client()
            for start in range(0, len(ids), BATCH):
                part = ids[start : start + BATCH]
                await relay(client.broker, database, app.clock, part, on_repeat=client.repeats)
        except (BrokerError, SQLAlchemyError, OSError) as exc:
            log.warning("%d task(s) stay in the outbox for now: %s", len(ids), exc)
            if pause is not None:
                await asyncio.sleep(pause)
        else:
            return
