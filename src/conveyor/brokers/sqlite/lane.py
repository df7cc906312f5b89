"""A thread that owns a connection: verbs queue up for it, writes share commits.

While one commit waits for the disk, the next verbs gather; they then go into one transaction, each
behind a savepoint of its own, and are answered together by one wake-up of the event loop.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from conveyor.brokers.sqlite.connection import connect, explain, is_busy
from conveyor.brokers.sqlite.options import Location
from conveyor.brokers.sqlite.rows import micros
from conveyor.brokers.sqlite.statements import SQL
from conveyor.brokers.sqlite.transaction import Names, NeedsCare, Transaction
from conveyor.core.errors import BrokerUnavailable

if TYPE_CHECKING:
    from conveyor.core.clock import Clock

T = TypeVar("T")
GROUP = 64
"""Verbs in one transaction at most: bounds how long one process keeps the others waiting."""
_FIRST_NAP, _LONGEST_NAP = 0.000_05, 0.002


class _Job(NamedTuple):
    work: Callable[[Any], Any]
    future: asyncio.Future[Any]
    writes: bool


class _Answer(NamedTuple):
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


class Lane:
    """One connection and its thread. `rung` is called in the thread after each commit that made
    somebody's task available.
    """

    def __init__(
        self,
        where: Location,
        clock: Clock,
        *,
        reader: bool = False,
        rung: Callable[[Transaction], None] | None = None,
    ) -> None:
        self._where = where
        self._clock = clock
        self._reader = reader
        self._rung = rung
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._connection: sqlite3.Connection
        self._names: Names
        self._started = self._loop.create_future()
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
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def write(self, work: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Run `work` in a write transaction; all of it or nothing is stored."""
        return self._submit(work, writes=True)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `work` on the connection, outside of any write transaction."""
        return self._submit(work, writes=False)

    def _submit(self, work: Callable[[Any], T], *, writes: bool) -> asyncio.Future[T]:
        if self._closed:
            raise BrokerUnavailable("this broker was closed: open another one")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, future, writes))
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
            self._answer([_Answer(self._started, error=exc)])
            return
        self._names = Names(self._connection)
        self._answer([_Answer(self._started)])
        try:
            while self._serve():
                pass
        finally:
            self._connection.close()

    def _serve(self) -> bool:
        """Serve whatever has queued up; says whether to go on."""
        job = self._jobs.get()
        group: list[_Job] = []
        while job is not None:
            if job.writes:
                group.append(job)
            else:
                self._commit(group)
                group = []
                self._answer([self._read(job)])
            if len(group) >= GROUP:
                break
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
        self._commit(group)
        return job is not None

    def _answer(self, answers: Sequence[_Answer]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._resolve, answers)
        except RuntimeError:
            # The loop was closed under us: nobody is waiting any more.
            pass

    def _read(self, job: _Job) -> _Answer:
        try:
            return _Answer(job.future, job.work(self._connection))
        except sqlite3.Error as exc:
            return _Answer(job.future, error=explain(exc, self._where))
        except Exception as exc:  # noqa: BLE001 - raised where it was asked
            return _Answer(job.future, error=exc)

    def _commit(self, group: list[_Job]) -> None:
        group = [job for job in group if not job.future.cancelled()]
        if not group:
            return
        done: list[Transaction] = []
        try:
            self._begin()
            answers = self._work(group, done)
            self._connection.execute("COMMIT")
        except BaseException as exc:  # noqa: BLE001 - every caller of the group gets it
            self._undo()
            error = explain(exc, self._where) if isinstance(exc, sqlite3.Error) else exc
            self._answer([_Answer(job.future, error=error) for job in group])
            return
        self._answer(answers)
        if self._rung is not None:
            for transaction in done:
                self._rung(transaction)

    def _work(self, group: list[_Job], done: list[Transaction]) -> list[_Answer]:
        now = micros(self._clock.time())
        event = (self._connection.execute(SQL["last_event"]).fetchone()[0] or 0) + 1
        answers = []
        alone = len(group) == 1
        for job in group:
            transaction, answer = self._one(job, now, event, alone)
            answers.append(answer)
            if transaction is not None:
                done.append(transaction)
                event += transaction.has_event
        return answers

    def _one(
        self, job: _Job, now: int, event: int, alone: bool
    ) -> tuple[Transaction | None, _Answer]:
        execute = self._connection.execute
        for careful in (False, True):
            transaction = Transaction(
                self._connection, self._names, now, event, careful=careful
            )
            if not alone:
                execute("SAVEPOINT verb")
            try:
                value = job.work(transaction)
                transaction.write_event()
            except Exception as exc:
                if not self._connection.in_transaction:
                    # Out of room or the like: SQLite has undone the work of the whole group.
                    raise
                if alone:
                    self._undo()
                    self._begin()
                else:
                    execute("ROLLBACK TO verb")
                    execute("RELEASE verb")
                    self._names.forget()
                if isinstance(exc, NeedsCare) and not careful:
                    continue
                error = explain(exc, self._where) if isinstance(exc, sqlite3.Error) else exc
                return None, _Answer(job.future, error=error)
            if not alone:
                execute("RELEASE verb")
            return transaction, _Answer(job.future, value)
        raise AssertionError("a verb never needs care twice")

    def _begin(self) -> None:
        """Begin a write transaction. SQLite's own waiting backs off to 100 ms and starves whoever
        waits; short naps with jitter find the gap between two transactions of another process.
        """
        deadline = time.monotonic() + self._where.busy_timeout
        nap = _FIRST_NAP
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as exc:
                if not is_busy(exc) or time.monotonic() >= deadline:
                    raise
            time.sleep(nap * (0.5 + random.random()))  # noqa: S311 - spreads naps, guards nothing
            nap = min(nap * 1.5, _LONGEST_NAP)

    def _undo(self) -> None:
        self._names.forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
