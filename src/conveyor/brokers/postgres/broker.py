"""The PostgreSQL broker: hot verbs on one connection, reads on a second, bells on two more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import asyncpg
import msgspec

from conveyor.brokers.base import (
    Holding,
    Inspector,
    Note,
    Pushed,
    Renewal,
    Step,
    StepReply,
    Tidied,
    WorkerInfo,
)
from conveyor.brokers.documents import Documents, Tallies
from conveyor.brokers.gates import Gates
from conveyor.brokers.joining import Joining
from conveyor.brokers.postgres import leases, schema
from conveyor.brokers.postgres.connection import HOT, READING, Connection, Link, ReplyLost
from conveyor.brokers.postgres.documents import PostgresDocuments, PostgresTallies
from conveyor.brokers.postgres.doorbell import Doorbell
from conveyor.brokers.postgres.events import EventReader
from conveyor.brokers.postgres.floors import Floors
from conveyor.brokers.postgres.gates import PostgresGates
from conveyor.brokers.postgres.inspector import PostgresInspector, finals
from conveyor.brokers.postgres.joining import PostgresJoining
from conveyor.brokers.postgres.options import locate
from conveyor.brokers.postgres.push import push, requeue
from conveyor.brokers.postgres.ringer import Ringer
from conveyor.brokers.postgres.rows import known_form
from conveyor.brokers.postgres.step import adopt, step
from conveyor.brokers.sql import STATES
from conveyor.core.clock import Clock
from conveyor.core.errors import BrokerUnavailable, EnqueueUnknown
from conveyor.core.lifecycle import cancellation
from conveyor.core.task import Final, Lease, NewTask, Pause, State

_CHUNK = 1_000
_TRIES = 3
_TRY_SECONDS = 10.0
_PAUSES = (0.05, 0.5)
_LEAST_CLAIM = 8


class PostgresBroker:
    """A `conveyor.brokers.base.Broker` in one schema of a PostgreSQL database."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._location = locate(url)
        self.url = self._location.shown
        self._clock = clock
        self._hot = Link(self._location, HOT)
        self._cold = Link(self._location, READING)
        self._events = EventReader(self._cold.run)
        self._bell = Doorbell(self._location, self._look_back)
        self._ringer = Ringer(self._location)
        self._floors: Floors | None = None
        self._joining = PostgresJoining(self._cold.run, self._location.namespace, self._now)

    def _now(self) -> float | None:
        """The time for the server, None when it should look at its own clock."""
        return None if self._clock is None else self._clock.time()

    # -- life

    async def open(self) -> None:
        """Connect and check the schema. Raises `BrokerUnavailable`, `SchemaMismatch`."""
        try:
            await self._hot.run(lambda c: schema.check(c, self._location))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close every connection."""
        await self._ringer.close()
        await self._bell.close()
        await self._hot.close()
        await self._cold.close()

    async def migrate(self) -> list[str]:
        """Bring the schema to this version."""
        return await self._cold.run(lambda c: schema.migrate(c, self._location))

    # -- the hot verbs

    async def push(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        """Store tasks, a thousand per transaction."""
        answers: list[Pushed] = []
        for start in range(0, len(tasks), _CHUNK):
            answers += await self._push(tasks[start : start + _CHUNK])
        return answers

    async def _push(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        """Push, and push again when the reply is lost: the ids make it harmless."""
        give_up, sent = monotonic() + _TRY_SECONDS, False
        for trial in range(_TRIES):
            try:
                answers = await self._hot.run(lambda c: push(c, tasks, self._now()))
                self._ringer.ring({new.task.queue for new in tasks})
                return answers
            except BrokerUnavailable as exc:
                sent = sent or isinstance(exc, ReplyLost)
                if not sent:
                    raise
            if trial + 1 == _TRIES or monotonic() > give_up:
                break
            await asyncio.sleep(_PAUSES[trial])
        raise EnqueueUnknown(new.task.id for new in tasks)

    async def step(self, step_: Step) -> StepReply:
        """Settle, promote and lease in one round trip."""
        return await self._hot.run(lambda c: self._step(c, step_))

    async def _step(self, connection: Connection, asked: Step) -> StepReply:
        # What another session saw says nothing: its server may have been another one.
        if self._floors is None or self._floors.session is not connection:
            self._floors = Floors(connection)
        try:
            return await step(connection, asked, self._floors, self._now())
        except asyncpg.ProgramLimitExceededError:
            # The tasks together were too large for one reply; nothing of it happened.
            if asked.want <= _LEAST_CLAIM:
                raise
            smaller = msgspec.structs.replace(asked, want=_LEAST_CLAIM)
            return await step(connection, smaller, self._floors, self._now())

    def _look_back(self) -> None:
        if self._floors is not None:
            self._floors.look()

    async def adopt(
        self, worker: str, names: Sequence[str], queues: Sequence[str], want: int
    ) -> list[Lease]:
        """Lease parked tasks."""
        return await self._hot.run(lambda c: adopt(c, worker, names, queues, want, self._now()))

    async def annotate(self, notes: Sequence[Note]) -> list[bool]:
        """Store progress and logs."""
        return await self._hot.run(lambda c: leases.annotate(c, notes))

    # -- leases

    async def renew(
        self, workers: Sequence[str], seconds: float, info: WorkerInfo | None = None
    ) -> dict[str, Renewal]:
        """Renew leases."""
        return await self._hot.run(lambda c: leases.renew(c, workers, seconds, info, self._now()))

    async def held(self, worker: str | None = None, limit: int = 1_000) -> list[Holding]:
        """Return what is held, sweeping the dead when nobody is named."""
        return await self._cold.run(lambda c: leases.held(c, worker, limit, self._now()))

    async def grace(self, seconds: float) -> None:
        """Lengthen every lease."""
        await self._cold.run(lambda c: leases.grace(c, seconds, self._now()))

    async def lead(self, role: str, holder: str, seconds: float) -> float | None:
        """Take or keep a leadership."""
        return await self._cold.run(lambda c: leases.lead(c, role, holder, seconds, self._now()))

    # -- operators' verbs

    async def cancel(
        self, ids: Sequence[str], *, by: str = "", reason: str = ""
    ) -> dict[str, State]:
        """Ask tasks to stop."""
        why = cancellation(by, reason)
        rows = await self._cold.run(
            lambda c: c.fetch("SELECT * FROM cancel($1, $2, $3)", self._now(), known_form(ids), why)
        )
        return {str(row[0]): STATES[row[1]] for row in rows}

    async def requeue(self, ids: Sequence[str], *, dead_only: bool = False) -> list[str]:
        """Give dead letters another life."""
        asked = known_form(ids)
        found = await self._cold.run(lambda c: requeue(c, asked, self._now(), dead_only=dead_only))
        return _those(asked, found)

    async def reschedule(
        self, ids: Sequence[str], *, delay: float | None = None, due_at: float | None = None
    ) -> list[str]:
        """Let scheduled tasks be due at another time."""
        asked = known_form(ids)
        found = await self._cold.run(
            lambda c: c.fetchval(
                "SELECT reschedule($1, $2, $3, $4)", self._now(), asked, delay, due_at
            )
        )
        return _those(asked, found)

    async def discard(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters."""
        asked = known_form(ids)
        found = await self._cold.run(lambda c: c.fetchval("SELECT discard($1)", asked))
        return _those(asked, found)

    async def pause(self, queue: str, pause: Pause | None) -> None:
        """Pause a queue, or let it run."""
        await self._cold.run(lambda c: leases.pause(c, queue, pause))

    async def tidy(self, limit: int = 1_000) -> Tidied:
        """Promote and prune."""
        row = await self._cold.run(
            lambda c: c.fetchrow("SELECT * FROM tidy($1, $2)", self._now(), limit)
        )
        return Tidied(promoted=row["promoted"], pruned=row["pruned"])

    # -- looking

    async def finals(self, ids: Sequence[str]) -> dict[str, Final]:
        """What these tasks ended in."""
        found: dict[str, Final] = await self._read(lambda c, now: finals(c, ids, now))
        return found

    @asynccontextmanager
    async def listen(
        self, worker: str, queues: Sequence[str], ring: Callable[[], Any]
    ) -> AsyncIterator[None]:
        """Ring while entered."""
        async with self._bell.listen(worker, queues, ring):
            yield

    @property
    def inspector(self) -> Inspector:
        """The read-only view."""
        return PostgresInspector(self._read, self._events)

    @property
    def gates(self) -> Gates:
        """The limits."""
        return PostgresGates(self._cold.run, self._read, self._now)

    @property
    def documents(self) -> Documents:
        """Small shared facts."""
        return PostgresDocuments(self._cold.run)

    @property
    def tallies(self) -> Tallies:
        """Fan-ins."""
        return PostgresTallies(self._cold.run)

    @property
    def joining(self) -> Joining:
        """The way into the transactions of others."""
        return self._joining

    async def _read(self, query: Callable[[Connection, float | None], Awaitable[Any]]) -> Any:
        async def run(connection: Connection) -> Any:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await query(connection, self._now())

        return await self._cold.run(run)


def _those(asked: Sequence[str], found: Sequence[Any]) -> list[str]:
    """Return the ids that were found, in the order asked."""
    changed = {str(task_id) for task_id in found}
    return [task_id for task_id in asked if task_id in changed]
