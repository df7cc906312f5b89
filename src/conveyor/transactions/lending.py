"""A session's connection, as the SQL stores borrow it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, text
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from conveyor.core.errors import InvalidOption

T = TypeVar("T")


class Lent:
    """A `conveyor.brokers.joining.Borrowed`: works for drivers of both kinds, because an async one
    is used from within a greenlet of SQLAlchemy's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def fetch(self, statement: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Run one statement."""
        return self._connection.execute(text(statement), dict(parameters)).all()

    def with_sqlite(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the driver's own connection."""
        driver: Any = self._connection.connection.dbapi_connection
        if isinstance(driver, AdaptedConnection):
            # What aiosqlite's own methods do: its connection lives in a thread of its own.
            return cast("T", driver.run_async(lambda lite: lite._execute(_on(lite, work))))
        return work(driver)


def _on(lite: Any, work: Callable[[sqlite3.Connection], T]) -> Callable[[], T]:
    return lambda: work(lite._conn)


def async_session(session: object) -> AsyncSession:
    """Return the session for `enqueue`. Raises `InvalidOption` for anything else."""
    if isinstance(session, async_scoped_session):
        session = session()
    if isinstance(session, AsyncSession):
        return session
    if isinstance(session, Session | scoped_session):
        raise InvalidOption("session= is a Session: use enqueue_sync, or give enqueue AsyncSession")
    raise InvalidOption(f"session={type(session).__name__}: an SQLAlchemy AsyncSession")


def must_fit(sessions: object, name: str, *, is_async: bool) -> None:
    """Raise `InvalidOption` unless the sessionmaker is of the kind that the function can use."""
    kind: type[object] = async_sessionmaker if is_async else sessionmaker
    if not isinstance(sessions, kind):
        function = "an async function" if is_async else "a function"
        raise InvalidOption(
            f"task {name!r}: transactional=True on {function} needs "
            f"Conveyor(sessions={kind.__name__}(engine))"
        )


def sync_session(session: object) -> Session:
    """Return the session for `enqueue_sync`. Raises `InvalidOption` for anything else."""
    if isinstance(session, scoped_session):
        session = session()
    if isinstance(session, Session):
        return session
    if isinstance(session, AsyncSession | async_scoped_session):
        raise InvalidOption("session= is an AsyncSession: await enqueue(…) instead of enqueue_sync")
    raise InvalidOption(f"session={type(session).__name__}: an SQLAlchemy Session")
