"""Bells: LISTEN on a connection of its own, for as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from conveyor.brokers.postgres.connection import Connection, connect, goodbye
from conveyor.brokers.postgres.options import Location
from conveyor.core.errors import BrokerUnavailable

_RETRY_SECONDS = 1.0
_CHECK_SECONDS = 15.0
"""A connection that died without a word is noticed after this long; until then workers poll."""


class _Listener(NamedTuple):
    worker: str
    queues: frozenset[str]
    ring: Callable[[], Any]


class Doorbell:
    """One listening connection for all listeners of a broker. `late` is called before listeners are
    rung for tasks that came into sight long after their time.
    """

    def __init__(self, location: Location, late: Callable[[], Any]) -> None:
        self._location = location
        self._late = late
        self._listeners: dict[object, _Listener] = {}
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    @asynccontextmanager
    async def listen(
        self, worker: str, queues: Sequence[str], ring: Callable[[], Any]
    ) -> AsyncIterator[None]:
        """Ring while entered."""
        key = object()
        self._listeners[key] = _Listener(worker, frozenset(queues), ring)
        try:
            async with self._lock:
                if self._keeper is None:
                    await self._start()
            yield
        finally:
            del self._listeners[key]
            if not self._listeners:
                await self.close()

    async def close(self) -> None:
        """Stop listening."""
        async with self._lock:
            keeper, self._keeper = self._keeper, None
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
            connection, self._connection = self._connection, None
            if connection is not None:
                await goodbye(connection)

    async def _start(self) -> None:
        try:
            await self._connect()
        except BrokerUnavailable:
            self._lost.set()
        self._keeper = asyncio.create_task(self._keep(), name="conveyor-doorbell")

    async def _connect(self) -> None:
        self._lost.clear()
        connection = await connect(self._location, {})
        try:
            await connection.add_listener(self._location.namespace, self._heard)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
            connection.terminate()
            raise BrokerUnavailable(f"{self._location.where} cannot be listened to") from exc
        self._connection = connection
        connection.add_termination_listener(lambda _: self._ended(connection))

    def _ended(self, connection: Connection) -> None:
        # An older connection may say goodbye when its successor is there already.
        if self._connection is connection:
            self._connection = None
            self._lost.set()

    async def _keep(self) -> None:
        """Reconnect when the connection is lost, and ring then: bells may have been missed."""
        while True:
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    await self._lost.wait()
            except TimeoutError:
                await self._probe()
                continue
            try:
                await self._connect()
            except BrokerUnavailable:
                self._lost.set()
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._ring_all()

    async def _probe(self) -> None:
        connection = self._connection
        try:
            if connection is not None:
                await connection.execute("SELECT 1", timeout=self._location.timeout)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if connection is not None:
                connection.terminate()
            self._lost.set()

    def _ring_all(self) -> None:
        for listener in list(self._listeners.values()):
            listener.ring()

    def _heard(self, _connection: object, _pid: int, _channel: str, said: object) -> None:
        text = str(said)
        kind, name = text[:1], text[1:]
        if kind == "l":
            self._late()
        for listener in list(self._listeners.values()):
            if kind == "w":
                if listener.worker == name:
                    listener.ring()
            elif not listener.queues or name in listener.queues:
                listener.ring()
