"""The SQLite broker: every write goes through one thread's group commits, reads beside it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

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
from conveyor.brokers.sqlite0 import changing, leasing, pushing, stepping
from conveyor.brokers.sqlite0.database import Database, migrate
from conveyor.brokers.sqlite0.doorbell import Doorbell
from conveyor.brokers.sqlite0.inspecting import SQLiteInspector, finals
from conveyor.brokers.sqlite0.writer import Writer, translated
from conveyor.core.clock import Clock
from conveyor.core.errors import BrokerUnavailable
from conveyor.core.task import Final, Lease, NewTask, Pause, State
from conveyor.system import SystemClock

T = TypeVar("T")
_CHUNK = 1_000


class SQLiteBroker:
    """A `conveyor.brokers.base.Broker` on one SQLite file, or in memory."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.url = url
        self._database = Database(url)
        self._clock: Clock = clock or SystemClock()
        self._bell = Doorbell(self._database.path)
        self._writer: Writer | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading: ThreadPoolExecutor | None = None
        self._known_queues: set[str] = set()
        self._pid = 0

    # -- life

    async def open(self) -> None:
        """Open the file, making it and its schema when new."""
        if self._writer is not None:
            return
        await self._start()
        try:
            await self.migrate()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        writing = await asyncio.to_thread(self._database.open)
        self._pid = os.getpid()
        self._writer = Writer(lambda: writing, self._database.where, self._database.busy)
        self._reading = ThreadPoolExecutor(1, "conveyor-sqlite-read")

    async def close(self) -> None:
        """Finish pending writes and close the connections."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()
        reading, self._reading = self._reading, None
        if reading is not None:
            await asyncio.to_thread(reading.shutdown)
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._bell.close()

    async def migrate(self) -> list[str]:
        """Make or check the schema."""
        if self._writer is None:
            await self._start()
        try:
            return await asyncio.to_thread(self._migrate)
        except sqlite3.Error as exc:
            raise translated(exc, self._database.where) from None

    def _migrate(self) -> list[str]:
        connection = self._database.open()
        try:
            return migrate(connection, self._database.where)
        finally:
            connection.close()

    # -- the hot verbs

    async def push(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        """Store tasks."""
        answers: list[Pushed] = []
        for start in range(0, len(tasks), _CHUNK):
            chunk = tasks[start : start + _CHUNK]
            result = await self._write(partial(self._push, chunk))
            self._known_queues |= {new.task.queue for new in chunk}
            if result.available:
                self._bell.ring()
            answers += result.pushed
        return answers

    def _push(
        self, tasks: Sequence[NewTask], connection: sqlite3.Connection, now: float
    ) -> pushing.PushResult:
        return pushing.push(connection, tasks, now, self._known_queues)

    async def step(self, step: Step) -> StepReply:
        """Settle, promote and lease in one transaction."""
        result = await self._write(lambda c, now: stepping.step(c, step, now))
        if result.available and len(result.reply.leases) >= step.want:
            self._bell.ring()
        return result.reply

    async def adopt(
        self, worker: str, names: Sequence[str], queues: Sequence[str], want: int
    ) -> list[Lease]:
        """Lease parked tasks."""
        if not await self._read(lambda c, _: c.execute("SELECT 1 FROM parked LIMIT 1").fetchone()):
            return []
        return await self._write(lambda c, now: stepping.adopt(c, worker, names, queues, want, now))

    async def renew(
        self, workers: Sequence[str], seconds: float, info: WorkerInfo | None = None
    ) -> dict[str, Renewal]:
        """Renew leases."""
        return await self._write(lambda c, now: leasing.renew(c, workers, seconds, info, now))

    async def held(self, worker: str | None = None, limit: int = 1_000) -> list[Holding]:
        """Return what is held, sweeping the dead when nobody is named."""
        return await self._write(lambda c, now: leasing.held(c, worker, limit, now))

    async def grace(self, seconds: float) -> None:
        """Lengthen every lease."""
        await self._write(lambda c, now: leasing.grace(c, seconds, now))

    async def cancel(
        self, ids: Sequence[str], *, by: str = "", reason: str = ""
    ) -> dict[str, State]:
        """Ask tasks to stop."""
        states, workers = await self._write(lambda c, now: changing.cancel(c, ids, by, reason, now))
        if workers:
            self._bell.ring()
        return states

    async def requeue(self, ids: Sequence[str]) -> list[str]:
        """Give dead letters another life."""
        changed, queues = await self._write(lambda c, now: changing.requeue(c, ids, now))
        if queues:
            self._bell.ring()
        return changed

    async def discard(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters."""
        return await self._write(lambda c, _: changing.discard(c, ids))

    async def annotate(self, notes: Sequence[Note]) -> list[bool]:
        """Store progress and logs."""
        return await self._write(lambda c, _: leasing.annotate(c, notes))

    async def finals(self, ids: Sequence[str]) -> dict[str, Final]:
        """What these tasks ended in."""
        return await self._read(lambda c, now: finals(c, list(ids), now))

    async def pause(self, queue: str, pause: Pause | None) -> None:
        """Pause a queue, or let it run."""
        await self._write(lambda c, _: leasing.pause(c, queue, pause))
        if pause is None:
            self._bell.ring()

    async def tidy(self, limit: int = 1_000) -> Tidied:
        """Promote and prune."""
        tidied, queues = await self._write(lambda c, now: changing.tidy(c, limit, now))
        if queues:
            self._bell.ring()
        return tidied

    async def lead(self, role: str, holder: str, seconds: float) -> float | None:
        """Take or keep a leadership."""
        return await self._write(lambda c, now: leasing.lead(c, role, holder, seconds, now))

    @asynccontextmanager
    async def listen(
        self, worker: str, queues: Sequence[str], ring: Callable[[], Any]
    ) -> AsyncIterator[None]:
        """Ring while entered."""
        async with self._bell.listen(worker, ring, self._database.open_reader):
            yield

    @property
    def inspector(self) -> Inspector:
        """The read-only view."""
        return SQLiteInspector(self._read)

    # -- running SQL

    async def _write(self, job: Callable[[sqlite3.Connection, float], T]) -> T:
        if self._writer is None:
            raise BrokerUnavailable(f"{self._database.where} is not open")
        if self._pid != os.getpid():
            raise BrokerUnavailable(
                f"{self._database.where} was opened before a fork: open it in this process"
            )
        return await self._writer.do(lambda connection: job(connection, self._clock.time()))

    async def _read(self, query: Callable[[sqlite3.Connection, float], T]) -> T:
        if self._reading is None:
            raise BrokerUnavailable(f"{self._database.where} is not open")
        run = partial(self._query, query)
        return await asyncio.get_running_loop().run_in_executor(self._reading, run)

    def _query(self, query: Callable[[sqlite3.Connection, float], T]) -> T:
        try:
            if self._reader is None:
                self._reader = self._database.open_reader()
            return query(self._reader, self._clock.time())
        except sqlite3.Error as exc:
            raise translated(exc, self._database.where) from None
