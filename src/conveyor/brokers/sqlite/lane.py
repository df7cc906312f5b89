"""A thread that owns a connection: verbs queue up for it and are answered in batches.

While one commit waits for the disk, the next verbs gather; they share the next commit, and one
wake-up of the event loop answers them all.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from conveyor.brokers.sqlite.commits import Commits
from conveyor.brokers.sqlite.connection import connect, explain
from conveyor.brokers.sqlite.doorbell import Doorbell
from conveyor.brokers.sqlite.options import Location
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.errors import BrokerUnavailable

if TYPE_CHECKING:
    from conveyor.core.clock import Clock

T = TypeVar("T")
GROUP = 64
ROWS = 2_000
"""Verbs and rows in one transaction, about: bounds how long one process keeps others waiting."""


class _Job(NamedTuple):
    work: Callable[[Any], Any]
    future: asyncio.Future[Any]
    rows: int | None
    """About how many rows it writes, None when it only reads."""


class _Answer(NamedTuple):
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


class Lane:
    """One connection and its thread. `bell` is rung for what is committed."""

    def __init__(
        self,
        where: Location,
        clock: Clock,
        *,
        reader: bool = False,
        bell: Doorbell | None = None,
    ) -> None:
        self._where = where
        self._clock = clock
        self._reader = reader
        self._bell = bell
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._connection: sqlite3.Connection
        self._commits: Commits
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        kind = "reader" if reader else "writer"
        self._thread = threading.Thread(
            target=self._run, name=f"conveyor-sqlite-{kind}", daemon=True
        )

    # -- on the loop

    async def start(self) -> None:
        """Connect. Raises `BrokerError`."""
        self._thread.start()
        await self._started

    async def close(self) -> None:
        """Finish what is queued, close the connection, end the thread."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def write(self, work: Callable[[Transaction], T], rows: int = 1) -> asyncio.Future[T]:
        """Run `work` in a write transaction; all of it or nothing is stored. `rows` is about how
        many it writes.
        """
        return self._submit(work, rows)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `work` on the connection, outside of any write transaction."""
        return self._submit(work, None)

    def _submit(self, work: Callable[[Any], T], rows: int | None) -> asyncio.Future[T]:
        if self._closed:
            raise BrokerUnavailable("this broker was closed: open another one")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, future, rows))
        return future

    @staticmethod
    def _resolve(answers: Sequence[_Answer]) -> None:
        for future, value, error in answers:
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    # -- in the thread

    def _run(self) -> None:
        try:
            self._connection = connect(self._where, reader=self._reader)
        except BaseException as exc:  # noqa: BLE001 - handed to whoever opens
            self._answer([_Answer(self._started, error=exc), _Answer(self._ended)])
            return
        self._commits = Commits(self._connection, self._where, self._clock, self._bell)
        self._answer([_Answer(self._started)])
        try:
            while self._serve():
                pass
        finally:
            self._commits.close()
            self._connection.close()
            self._answer([_Answer(self._ended)])

    def _serve(self) -> bool:
        """Serve whatever has queued up; says whether to go on."""
        job = self._jobs.get()
        group: list[_Job] = []
        rows = 0
        while job is not None:
            if job.rows is None:
                self._commit(group)
                group, rows = [], 0
                self._answer([self._read(job)])
            else:
                group.append(job)
                rows += job.rows
            if len(group) >= GROUP or rows >= ROWS:
                break
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
        self._commit(group)
        return job is not None

    def _answer(self, answers: Sequence[_Answer]) -> None:
        # When the loop was closed under us, nobody is waiting any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolve, answers)

    def _read(self, job: _Job) -> _Answer:
        try:
            if self._reader:
                # All statements of one question see the same moment.
                self._connection.execute("BEGIN")
            try:
                return _Answer(job.future, job.work(self._connection))
            finally:
                if self._reader and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as exc:
            return _Answer(job.future, error=explain(exc, self._where))
        except Exception as exc:  # noqa: BLE001 - raised where it was asked
            return _Answer(job.future, error=exc)

    def _commit(self, group: list[_Job]) -> None:
        group = [job for job in group if not job.future.cancelled()]
        if not group:
            return
        outcomes = self._commits.run([job.work for job in group])
        self._answer(
            [
                _Answer(job.future, outcome.value, outcome.error)
                for job, outcome in zip(group, outcomes, strict=True)
            ]
        )
