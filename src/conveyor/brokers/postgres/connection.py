"""One connection to the server: made when needed, renewed when lost, its errors translated."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from conveyor.brokers.postgres.options import Location
from conveyor.core.errors import (
    BrokerFull,
    BrokerUnavailable,
    ConveyorError,
    InvalidURL,
    SchemaMismatch,
)

T = TypeVar("T")
Connection = Any
"""An `asyncpg.Connection`."""
CONNECT_SECONDS = 2.0
_COLLISIONS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_COLLISION_TRIES = 5
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
# Every hot statement has one good plan, by index; the planner must not think of another one while
# the tables have no statistics, nor spend time on it.
HOT = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
}
READING = {"jit": "off"}
_KEEPALIVE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


class ReplyLost(BrokerUnavailable):
    """Something was sent, and no reply came: it may have happened."""


async def connect(location: Location, settings: dict[str, str]) -> Connection:
    """Connect within two seconds. Raises `BrokerUnavailable`."""
    dialing = asyncio.create_task(_dial(location, settings), name="conveyor-postgres-dialing")
    try:
        return await asyncio.shield(dialing)
    except asyncio.CancelledError:
        # Given up half way, the driver forgets what it waits for, and the loop complains of it
        # later: what was begun ends first, within its two seconds.
        dialing.add_done_callback(_hang_up)
        await asyncio.wait([dialing])
        raise


def _hang_up(dialing: asyncio.Task[Connection]) -> None:
    if not dialing.cancelled() and dialing.exception() is None:
        dialing.result().terminate()


async def _dial(location: Location, settings: dict[str, str]) -> Connection:
    try:
        return await asyncpg.connect(
            location.dsn,
            timeout=CONNECT_SECONDS,
            command_timeout=location.timeout,
            server_settings={
                "search_path": location.namespace,
                "application_name": "conveyor",
                **_KEEPALIVE,
                **settings,
            },
        )
    except asyncpg.ClientConfigurationError as exc:
        raise InvalidURL(f"broker URL {location.shown!r} cannot be used: {exc}") from None
    except (*_LOST, asyncpg.PostgresError, ValueError) as exc:
        raise translated(exc, location, sent=False) from None


class Link:
    """Runs jobs on one connection, one after the other."""

    def __init__(self, location: Location, settings: dict[str, str]) -> None:
        self._location = location
        self._settings = settings
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._pid = os.getpid()

    async def run(self, job: Callable[[Connection], Awaitable[T]]) -> T:
        """Run one job. It may be run again when it collided with another one, so it must be a
        single statement or one transaction. Raises `BrokerUnavailable`, `BrokerFull`.
        """
        if self._connection is not None and self._pid != os.getpid():
            raise BrokerUnavailable(
                f"{self._location.where} was opened before a fork: open it in this process"
            )
        async with self._lock:
            connection = await self._ready()
            for last in range(_COLLISION_TRIES):
                try:
                    return await job(connection)
                except ConveyorError:
                    raise
                except _COLLISIONS as exc:
                    if last + 1 == _COLLISION_TRIES:
                        raise translated(exc, self._location, sent=True) from None
                except _LOST as exc:
                    self._drop()
                    raise translated(exc, self._location, sent=True) from None
                except asyncpg.PostgresError as exc:
                    raise translated(exc, self._location, sent=True) from None
        raise AssertionError("unreachable")

    async def _ready(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._drop()
            self._connection = await connect(self._location, self._settings)
            self._pid = os.getpid()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Say goodbye; the next job would connect anew."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            await goodbye(connection)


async def goodbye(connection: Connection) -> None:
    """Close a connection, politely if the server still listens."""
    try:
        await connection.close(timeout=1.0)
    except (*_LOST, asyncpg.PostgresError):
        connection.terminate()


def translated(exc: BaseException, location: Location, *, sent: bool) -> ConveyorError:
    """Return the broker's error for the driver's or the server's."""
    where = location.where
    # The driver's own messages may quote the DSN; the server's never do.
    text = str(exc) if isinstance(exc, asyncpg.PostgresError | OSError) else type(exc).__name__
    if isinstance(exc, asyncpg.DiskFullError):
        return BrokerFull(f"no room left in {where}; nothing was stored")
    if isinstance(exc, asyncpg.UndefinedTableError | asyncpg.UndefinedFunctionError):
        return SchemaMismatch(
            f"{where} has no fitting Conveyor schema ({text}): run "
            f"`conveyor migrate --url {location.shown}`"
        )
    if isinstance(exc, TimeoutError):
        limit = location.timeout if sent else CONNECT_SECONDS
        text = f"no answer within {limit:g} s"
    elif isinstance(exc, OSError) and exc.errno:
        # The loop's own text repeats the address.
        text = f"{os.strerror(exc.errno)}; is it running there?"
    lost = isinstance(exc, _LOST)
    kind = ReplyLost if sent and lost else BrokerUnavailable
    verb = "cannot be reached" if lost or not sent else "refused"
    return kind(f"{where} {verb}: {text or type(exc).__name__}")
