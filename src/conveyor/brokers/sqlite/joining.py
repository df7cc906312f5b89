"""Pushing and settling in the transaction of a connection that is not ours, to the same file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from conveyor.brokers.base import Pushed, Settlement
from conveyor.brokers.joining import Bell, Borrowed
from conveyor.brokers.sqlite import push
from conveyor.brokers.sqlite.connection import explain
from conveyor.brokers.sqlite.options import Location
from conveyor.brokers.sqlite.settle import settle
from conveyor.brokers.sqlite.statements import SQL
from conveyor.brokers.sqlite.transaction import Known, NeedsCare, Transaction
from conveyor.core.task import NewTask

T = TypeVar("T")


class SQLiteJoining:
    """A `conveyor.brokers.joining.Joining` on one file."""

    dialect = "sqlite"

    def __init__(
        self, where: Location, now: Callable[[], int], rung: Callable[[Transaction], None]
    ) -> None:
        self._where = where
        self._now = now
        self._rung = rung

    async def identify(self) -> None:
        """Nothing is to be learned: the file says which one it is."""

    async def prepare(self, tasks: Sequence[NewTask]) -> None:
        """Nothing to prepare: one lock is for everything, and the caller's to keep short."""

    def is_home(self, connection: Borrowed) -> bool:
        """Compare the files, whatever they are called."""
        if self._where.path is None:
            return False
        file = connection.with_sqlite(_file_of)
        return bool(file) and _same(file, self._where.path)

    def push(
        self, connection: Borrowed, tasks: Sequence[NewTask]
    ) -> tuple[list[Pushed], Bell | None]:
        """Push, beginning the caller's transaction if nothing was written in it yet."""
        batch = push.prepare(tasks)
        return self._run(connection, partial(push.push, batch=batch))

    def settle(self, connection: Borrowed, settlement: Settlement) -> tuple[bool, Bell | None]:
        """End an execution."""
        refused, bell = self._run(connection, lambda tx: settle(tx, [settlement]))
        return not refused, bell

    def _run(self, connection: Borrowed, work: Callable[[Transaction], T]) -> tuple[T, Bell]:
        try:
            value, done = connection.with_sqlite(lambda raw: _within(raw, work, self._now))
        except sqlite3.Error as exc:
            raise explain(exc, self._where) from exc
        return value, partial(self._rung, done)


def _file_of(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA database_list").fetchone()[2] or "")


def _same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _within(
    connection: sqlite3.Connection, work: Callable[[Transaction], T], now: Callable[[], int]
) -> tuple[T, Transaction]:
    """Run a verb under the write lock of a transaction that goes on afterwards."""
    if not connection.in_transaction:
        connection.execute("BEGIN IMMEDIATE")
    # One that has only read so far takes the lock here: times and numbers are read under it.
    connection.execute("DELETE FROM conveyor_event WHERE 0")
    for careful in (False, True):
        event = (connection.execute(SQL["last_event"]).fetchone()[0] or 0) + 1
        done = Transaction(connection, Known(connection), now(), event, careful=careful)
        connection.execute("SAVEPOINT conveyor_verb")
        try:
            value = work(done)
            done.finish()
        except BaseException as exc:
            if connection.in_transaction:
                connection.execute("ROLLBACK TO conveyor_verb")
                connection.execute("RELEASE conveyor_verb")
            if isinstance(exc, NeedsCare):
                continue
            raise
        connection.execute("RELEASE conveyor_verb")
        return value, done
    raise AssertionError("a verb never asks for care twice")
