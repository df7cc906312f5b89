"""The app's connections: a client for each event loop, and a loop for synchronous callers."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar

from conveyor.brokers.url import opened
from conveyor.client import Client
from conveyor.portal import Portal
from conveyor.system import SystemClock

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker, Inspector
    from conveyor.core.clock import Clock

T = TypeVar("T")
_LAST_WORDS = 2.0
"""Seconds that closing waits for what runs beside."""


class Connections:
    """Opens and closes what one app uses. Nothing connects before the first use."""

    def __init__(self, url: str, clock: Clock | None) -> None:
        self.url = url
        self.clock: Clock = clock or SystemClock()
        self._given_clock = clock
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = (
            weakref.WeakKeyDictionary()
        )
        self._opening: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Future[Client]
        ] = weakref.WeakKeyDictionary()
        self._portal = Portal()
        self._beside: set[Future[Any]] = set()
        self.outgoing: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        """What `conveyor.transactions` relays right after commits, by engine."""

    async def client(self) -> Client:
        """Return this event loop's client, connecting on first use."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is not None:
            return client
        opening = self._opening.get(loop)
        if opening is None:
            opening = self._opening[loop] = asyncio.ensure_future(self._open())
        try:
            return await asyncio.shield(opening)
        finally:
            self._opening.pop(loop, None)

    async def _open(self) -> Client:
        return self.attach(await opened(self.url, clock=self._given_clock))

    def attach(self, broker: Broker) -> Client:
        """Use an open broker for the running event loop; closing the app closes it."""
        client = Client(broker)
        self._clients[asyncio.get_running_loop()] = client
        return client

    async def inspector(self) -> Inspector:
        """Return the read-only view of the broker."""
        return (await self.client()).broker.inspector

    def run_sync(self, coroutine: Any) -> Any:
        """Run one of the app's coroutines from synchronous code, on the loop of a worker this
        thread belongs to, else on a background loop of the app's own."""
        loop = self._another_loop(running_loop())
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    def _another_loop(self, here: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
        for loop in list(self._clients):
            if loop is not here and loop.is_running():
                return loop
        return self._portal.loop

    def start(self, coroutine: Coroutine[Any, Any, T], *, here: bool = True) -> Future[T]:
        """Run one of the app's coroutines beside the caller: on the running loop (if `here`), else
        on the one that serves synchronous callers. Closing the app waits for it, 2 s at most.
        """
        running = running_loop()
        loop = running if here and running is not None else self._another_loop(running)
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        self._beside.add(future)
        future.add_done_callback(self._beside.discard)
        return future

    async def close(self) -> None:
        """Close this loop's connections and those made for synchronous callers."""
        if self._beside:
            await asyncio.wait(map(asyncio.wrap_future, self._beside), timeout=_LAST_WORDS)
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()
        if self._portal.started:
            await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """Close the connections that synchronous calls made."""
        if not self._portal.started:
            return
        wait(self._beside, timeout=_LAST_WORDS)
        client = self._clients.pop(self._portal.loop, None)
        if client is not None:
            self._portal.run(client.close())
        self._portal.close()

    async def __aenter__(self) -> Self:
        await self.client()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
