"""One engine, and a session per request: one request is one commit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    ExceptionContext,
    NullPool,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from conveyor.errors import InvalidOption
from conveyor_console.kit.filters import has_line

PATIENCE = 10.0
"""Seconds that the database is waited for: for a place in the pool, a connection, an answer."""
_LONGEST = 60.0
_TRUSTED = 1.0
"""Seconds for which a connection that answered is taken to be alive."""
_LAZILY = text("SET LOCAL synchronous_commit = off")
_SQLITE_ARGUMENTS = {"timeout": 10}
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Database:
    """The console's database at `url`, e.g. `sqlite:///conveyor.db` or `postgresql://…`. What takes
    longer than `patience` (seconds) fails, as if the database were away; None: it may take its
    time, as a migration does."""

    def __init__(self, url: str, *, pool_size: int = 10, patience: float | None = PATIENCE) -> None:
        self.url = url
        self.patience = patience
        self.engine = _engine(url, pool_size, patience)
        self._reading = async_sessionmaker(self.engine, expire_on_commit=False)
        self._writing = async_sessionmaker(
            self.engine.execution_options(writes=True), expire_on_commit=False
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether it is one file, with one writer at a time."""
        return self.engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session to look something up with."""
        async with self._reading() as session, session.begin():
            yield session

    @asynccontextmanager
    async def writing(self, *, repeatable: bool = False) -> AsyncIterator[AsyncSession]:
        """A session that commits when the block ends, and rolls back when it fails. On SQLite it
        waits for its turn as the one writer at once, and so never fails in the middle. What is
        `repeatable` (it holds its own cursor) does not wait for the disk of the server: a crash
        of that may take the last commits back, whole and in order, and they are made again."""
        async with self._writing() as session, session.begin():
            if repeatable and not self.is_sqlite:
                await session.execute(_LAZILY)
            yield session

    @property
    def is_file(self) -> bool:
        """Whether it is an SQLite file, and so can be opened once more."""
        return self.is_sqlite and self.engine.url.database not in {None, "", ":memory:"}

    @contextmanager
    def writing_in_thread(self) -> Iterator[Connection]:
        """Like `writing`, for a thread that may be blocked, on an SQLite file: between two
        statements it waits for no event loop, so the other writers of the file wait less."""
        engine = create_engine(
            self.engine.url.set(drivername="sqlite"),
            poolclass=NullPool,
            connect_args=_SQLITE_ARGUMENTS,
            hide_parameters=True,
        )
        _listen(engine)
        with engine.execution_options(writes=True).begin() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def async_url(url: str) -> str:
    """Return the SQLAlchemy URL of a database. Raises `InvalidOption`."""
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    except ArgumentError:
        raise InvalidOption("CONVEYOR_DATABASE_URL is not a database URL") from None
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise InvalidOption(
            f"the console keeps its data in SQLite or PostgreSQL, not in {backend!r}: "
            "set CONVEYOR_DATABASE_URL to sqlite:///… or postgresql://…"
        )
    return parsed.set(drivername=_DRIVERS[backend]).render_as_string(hide_password=False)


def _engine(url: str, pool_size: int, patience: float | None) -> AsyncEngine:
    # Statements that fail are logged: without their values, which may be secrets.
    full = async_url(url)
    pool: dict[str, Any] = {"pool_size": pool_size, "pool_timeout": patience or _LONGEST}
    if full.startswith("sqlite"):
        engine = create_async_engine(
            full, **pool, connect_args=_SQLITE_ARGUMENTS, hide_parameters=True
        )
        _listen(engine.sync_engine)
        return engine
    waits = {"timeout": patience or _LONGEST, "command_timeout": patience}
    engine = create_async_engine(
        full, **pool, connect_args=waits, max_overflow=5, pool_pre_ping=True, hide_parameters=True
    )
    event.listen(engine.sync_engine, "handle_error", _give_up)
    _ask_seldom(engine.sync_engine.dialect)
    return engine


def _ask_seldom(dialect: Dialect) -> None:
    """Ask a connection whether it is alive once in a while only, not before every transaction: that
    is three round trips of its own. One that the server closed tells at once."""
    ask, asked = dialect.do_ping, WeakKeyDictionary[Any, float]()

    def do_ping(connection: Any) -> bool:
        driver, now = connection.driver_connection, monotonic()
        if not driver.is_closed() and now - asked.get(driver, -_TRUSTED) < _TRUSTED:
            return True
        alive = ask(connection)
        asked[driver] = now
        return alive

    dialect.do_ping = do_ping  # type: ignore[assignment, method-assign]


def _give_up(failure: ExceptionContext) -> None:
    """Drop the connection that did not answer in time: a rollback on it would wait as long. The
    driver takes the statement back first, for up to two seconds: it must not run on unseen."""
    if isinstance(failure.original_exception, TimeoutError):
        failure.is_disconnect = True


def _listen(engine: Engine) -> None:
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)


def _prepare_sqlite(connection: Any, _: object) -> None:
    # The driver would begin transactions by itself, at the first write only.
    connection.isolation_level = None
    connection.create_function("has_line", 2, has_line, deterministic=True)  # see kit/selecting.py
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "foreign_keys = ON", "synchronous = NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A reader that turns writer fails at once when another wrote meanwhile (SQLITE_BUSY_SNAPSHOT):
    # who means to write says so, and waits its turn.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
