"""The SQLite broker: every verb of `conveyor.brokers.base.Broker`."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

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
from conveyor.brokers.sqlite import claim, endings, leases, push, schema, tidy, views
from conveyor.brokers.sqlite.documents import SQLiteDocuments, SQLiteTallies
from conveyor.brokers.sqlite.doorbell import Doorbell
from conveyor.brokers.sqlite.gates import SQLiteGates
from conveyor.brokers.sqlite.inspector import SQLiteInspector
from conveyor.brokers.sqlite.joining import SQLiteJoining
from conveyor.brokers.sqlite.lane import Lane
from conveyor.brokers.sqlite.options import locate
from conveyor.brokers.sqlite.rows import micros
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.errors import BrokerError, BrokerUnavailable
from conveyor.core.task import Final, Lease, NewTask, Pause, State
from conveyor.system import SystemClock

if TYPE_CHECKING:
    from conveyor.core.clock import Clock

T = TypeVar("T")
PUSH_CHUNK = 1_000
POLL_SECONDS = 0.25
"""How often the file is looked at for changes where bells cannot reach other processes."""


class _Store(NamedTuple):
    """What an open broker has."""

    pid: int
    writer: Lane
    reader: Lane
    """The writer itself when the store is in memory: nobody else could see it."""
    bell: Doorbell


class SQLiteBroker:
    """A store in one SQLite file, shared by the processes of a machine; in memory without a path.

    `url` is `sqlite:///relative.db`, `sqlite:////absolute.db` or `sqlite://`, with the options
    `synchronous` (full, normal) and `busy_timeout` (seconds). Raises `InvalidURL`.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.url = url
        self._where = locate(url)
        self._clock: Clock = clock or SystemClock()
        self._store: _Store | None = None
        self._poll: asyncio.Task[None] | None = None
        self._inspector = SQLiteInspector(self._read, self._now)
        self._documents = SQLiteDocuments(self._read, self._write)
        self._tallies = SQLiteTallies(self._read, self._write)
        self._gates = SQLiteGates(self._read, self._write, self._now)
        self._joining = SQLiteJoining(self._where, self._now, self._rung)

    # -- opening and closing

    async def open(self) -> None:
        """Open the file, making it and its schema when there is none. Raises `BrokerUnavailable`,
        `SchemaMismatch`.
        """
        await self.migrate()

    async def migrate(self) -> list[str]:
        """Bring the schema to this version; opens the file first when it is not open."""
        if self._store is None:
            await self._connect()
        where = self._where
        try:
            return await self._opened().writer.read(
                lambda connection: schema.migrate(connection, where)
            )
        except BaseException:
            await self.close()
            raise

    async def _connect(self) -> None:
        bell = Doorbell(self._where.path)
        writer = Lane(self._where, self._clock, bell=bell)
        reader = writer
        try:
            await writer.start()
            if self._where.path is not None:
                reader = Lane(self._where, self._clock, reader=True)
                await reader.start()
        except BaseException:
            await writer.close()
            bell.close()
            raise
        self._store = _Store(os.getpid(), writer, reader, bell)

    async def close(self) -> None:
        """Finish what was asked for, then let go of connections, threads and sockets."""
        store, self._store = self._store, None
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait([self._poll])
            self._poll = None
        if store is None or store.pid != os.getpid():
            return
        await store.reader.close()
        await store.writer.close()
        store.bell.close()

    # -- verbs

    async def push(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        """Store tasks; those of several chunks share commits."""
        answers = []
        for start in range(0, len(tasks), PUSH_CHUNK):
            batch = push.prepare(tasks[start : start + PUSH_CHUNK])
            answers.append(self._write(partial(push.push, batch=batch), len(batch.tasks)))
        return [pushed for answer in answers for pushed in await answer]

    async def step(self, step: Step) -> StepReply:
        """Settle, promote and lease in one transaction."""
        listener = self._opened().bell.find(step.worker)
        if listener is None or step.want <= 0:
            return await self._step(step)
        marked = listener.before_step()
        reply = await self._step(step)
        listener.after_step(sated=len(reply.leases) >= step.want, marked=marked)
        return reply

    async def adopt(
        self, worker: str, names: Sequence[str], queues: Sequence[str], want: int
    ) -> list[Lease]:
        """Lease parked tasks; when there are none at all, only a look."""
        if want <= 0 or not names or not await self._read(claim.any_parked):
            return []
        return await self._write(lambda tx: claim.adopt(tx, worker, names, queues, want))

    async def renew(
        self, workers: Sequence[str], seconds: float, info: WorkerInfo | None = None
    ) -> dict[str, Renewal]:
        """Make leases good for `seconds` from now; 0 ends them."""
        return await self._write(lambda tx: leases.renew(tx, workers, seconds, info))

    async def held(self, worker: str | None = None, limit: int = 1_000) -> list[Holding]:
        """Running tasks of a worker, or of all silent ones, which are thereby swept."""
        return await self._write(lambda tx: leases.held(tx, worker, limit))

    async def grace(self, seconds: float) -> None:
        """Lengthen every lease by `seconds`."""
        await self._write(lambda tx: leases.grace(tx, seconds))

    async def cancel(
        self, ids: Sequence[str], *, by: str = "", reason: str = ""
    ) -> dict[str, State]:
        """Cancel waiting tasks, flag running ones and ring for their workers."""
        return await self._write(lambda tx: endings.cancel(tx, ids, by, reason))

    async def requeue(self, ids: Sequence[str], *, dead_only: bool = False) -> list[str]:
        """Give dead letters another life; make scheduled tasks due."""
        return await self._write(lambda tx: endings.requeue(tx, ids, dead_only=dead_only))

    async def reschedule(
        self, ids: Sequence[str], *, delay: float | None = None, due_at: float | None = None
    ) -> list[str]:
        """Let scheduled tasks be due at another time."""
        return await self._write(lambda tx: endings.reschedule(tx, ids, delay, due_at))

    async def discard(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters for good."""
        return await self._write(lambda tx: endings.discard(tx, ids))

    async def annotate(self, notes: Sequence[Note]) -> list[bool]:
        """Store progress and logs of running executions."""
        return await self._write(lambda tx: leases.annotate(tx, notes))

    async def finals(self, ids: Sequence[str]) -> dict[str, Final]:
        """What tasks ended in. Raises `TaskNotFound`."""
        now = self._now()
        return await self._read(lambda connection: views.finals(connection, ids, now))

    async def pause(self, queue: str, pause: Pause | None) -> None:
        """Pause or resume a queue."""
        await self._write(lambda tx: endings.pause(tx, queue, pause))

    async def tidy(self, limit: int = 1_000) -> Tidied:
        """Promote what is due, delete what is past its time."""
        return await self._write(lambda tx: tidy.tidy(tx, limit))

    async def lead(self, role: str, holder: str, seconds: float) -> float | None:
        """Take, keep or give up a role."""
        return await self._write(lambda tx: leases.lead(tx, role, holder, seconds))

    def listen(
        self, worker: str, queues: Sequence[str], ring: Callable[[], Any]
    ) -> AbstractAsyncContextManager[None]:
        """Ring for a worker while entered."""
        return self._listening(worker, queues, ring)

    @property
    def inspector(self) -> Inspector:
        """The read-only view of this store."""
        return self._inspector

    @property
    def gates(self) -> Gates:
        """The limits of this store."""
        return self._gates

    @property
    def documents(self) -> Documents:
        """Small shared facts with versions."""
        return self._documents

    @property
    def tallies(self) -> Tallies:
        """Sets that know their size."""
        return self._tallies

    @property
    def joining(self) -> Joining:
        """The way into the transactions of others."""
        return self._joining

    # -- how

    def _rung(self, tx: Transaction) -> None:
        if self._store is not None:
            self._store.bell.rung(tx)
            self._store.bell.ring_owed()

    @asynccontextmanager
    async def _listening(
        self, worker: str, queues: Sequence[str], ring: Callable[[], Any]
    ) -> AsyncIterator[None]:
        bell = self._opened().bell
        listener = bell.enter(worker, queues, ring)
        if self._where.path is not None and not bell.reaches_others and self._poll is None:
            self._poll = asyncio.create_task(self._watch_file(bell), name="conveyor-sqlite-poll")
        try:
            yield
        finally:
            bell.leave(listener)

    async def _watch_file(self, bell: Doorbell) -> None:
        seen = -1
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with suppress(BrokerError):
                version = await self._read(views.data_version)
                if version != seen:
                    bell.ring_all_here()
                seen = version

    def _now(self) -> int:
        return micros(self._clock.time())

    def _step(self, step: Step) -> asyncio.Future[StepReply]:
        return self._write(lambda tx: claim.step(tx, step), len(step.settlements) + step.want)

    def _write(self, work: Callable[[Transaction], T], rows: int = 1) -> asyncio.Future[T]:
        return self._opened().writer.write(work, rows)

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        return self._opened().reader.read(query)

    def _opened(self) -> _Store:
        if self._store is None:
            raise BrokerUnavailable("this broker is not open: call open() first")
        if self._store.pid != os.getpid():
            # The copies of locks and threads that a fork makes would damage the file.
            raise BrokerError(
                f"this broker was opened in process {self._store.pid} and cannot be used after a "
                f"fork: open one in process {os.getpid()}"
            )
        return self._store
