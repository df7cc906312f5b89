"""One thread owns the writing connection; writes that meet share one commit.

A write is a function of the connection. Everything that waits when a transaction begins goes into
it, each in a savepoint of its own, so that one failing leaves the others whole; then one fdatasync
pays for all of them, and one wake-up of the event loop tells all callers.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from random import uniform
from time import monotonic, sleep
from typing import Any, TypeVar

from conveyor.core.errors import BrokerFull, BrokerUnavailable, ConveyorError

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
_Entry = tuple[Job[Any], "asyncio.Future[Any]"]
_MOST = 64


class Writer:
    """Runs jobs on the writing connection, in order, in group commits."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], where: str, busy: float) -> None:
        self._connect = connect
        self._where = where
        self._busy = busy
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Entry] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="conveyor-sqlite", daemon=True)
        self._thread.start()

    async def do(self, job: Job[T]) -> T:
        """Run one write; returns its value once it is committed."""
        future: asyncio.Future[T] = self._loop.create_future()
        with self._wake:
            if self._closing:
                raise BrokerUnavailable(f"{self._where} is closed")
            self._jobs.append((job, future))
            self._wake.notify()
        return await future

    async def close(self) -> None:
        """Finish what waits, then close the connection."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        connection = self._connect()
        try:
            while batch := self._next():
                self._tell(self._commit(connection, batch))
        finally:
            connection.close()

    def _next(self) -> list[_Entry]:
        with self._wake:
            while not self._jobs and not self._closing:
                self._wake.wait()
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), _MOST))]

    def _commit(
        self, connection: sqlite3.Connection, batch: list[_Entry]
    ) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        try:
            self._begin(connection)
            answers = [self._apply(connection, *entry, alone=len(batch) == 1) for entry in batch]
            connection.execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - told to every caller
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            told = self._translated(exc)
            return [(future, None, told) for _, future in batch]
        return answers

    def _apply(
        self,
        connection: sqlite3.Connection,
        job: Job[Any],
        future: asyncio.Future[Any],
        *,
        alone: bool,
    ) -> tuple[asyncio.Future[Any], Any, BaseException | None]:
        if alone:
            return future, job(connection), None
        connection.execute("SAVEPOINT job")
        try:
            value = job(connection)
        except Exception as exc:
            if isinstance(exc, sqlite3.OperationalError) and not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
            return future, None, self._translated(exc)
        connection.execute("RELEASE job")
        return future, value, None

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Take the write lock with short, random waits: SQLite's own handler sleeps up to 100 ms
        at a time, which starves whoever waits beside a busy process."""
        give_up = monotonic() + self._busy
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                if "locked" not in str(exc) or monotonic() > give_up:
                    raise
                sleep(uniform(0.000_2, 0.002))  # noqa: S311 - spreads waiters
            else:
                return

    def _translated(self, exc: BaseException) -> BaseException:
        return translated(exc, self._where)

    def _tell(self, answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, answers)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _resolve(answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, value, exc in answers:
        if future.done():
            continue
        if exc is None:
            future.set_result(value)
        else:
            future.set_exception(exc)


def translated(exc: BaseException, where: str) -> BaseException:
    """Return the broker's error for SQLite's."""
    if isinstance(exc, ConveyorError) or not isinstance(exc, sqlite3.Error):
        return exc
    text = str(exc)
    if "full" in text:
        return BrokerFull(f"no room left for {where}; nothing was stored")
    if "locked" in text:
        return BrokerUnavailable(f"{where} stays locked by another program; nothing was stored")
    return BrokerUnavailable(f"{where} cannot be used: {text}")
