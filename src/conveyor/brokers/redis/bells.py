"""Bells: a worker waits for its ring with BLPOP, on connections of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from conveyor.brokers.redis.faults import FAULTS
from conveyor.brokers.redis.server import hang_up
from conveyor.brokers.redis.stepping import Seat
from conveyor.brokers.redis.store import Store
from conveyor.brokers.redis.wire import ReplyError, pack
from conveyor.core.errors import BrokerError

_WAIT = 1
"""Seconds a BLPOP waits: a ring that is lost (to a connection that breaks) costs no more."""
_SLACK = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Bells:
    """Rings for one worker. A cluster needs one wait per queue, one server one for all of them."""

    def __init__(
        self, store: Store, worker: str, queues: Sequence[str], ring: Callable[[], Any], seat: Seat
    ) -> None:
        self._store = store
        self._worker = worker
        self._queues = queues
        self._ring = ring
        self._seat = seat
        self._waits: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Ring while entered."""
        self._seat.listeners += 1
        attendant = asyncio.create_task(self._attend(), name="conveyor-bells")
        try:
            yield
        finally:
            self._seat.listeners -= 1
            attendant.cancel()
            await asyncio.wait([attendant])
            await self._leave()

    async def _attend(self) -> None:
        """Keep a wait going for the queues there are: the caller's list may grow."""
        try:
            while True:
                wanted = self._groups()
                for group in self._waits.keys() - wanted:
                    self._end(self._waits.pop(group))
                for group in wanted - self._waits.keys():
                    self._waits[group] = asyncio.create_task(self._wait_on(group))
                await asyncio.sleep(_WAIT / 4)
        finally:
            for wait in self._waits.values():
                self._end(wait)
            if self._ending:
                await asyncio.wait(self._ending)

    def _end(self, wait: asyncio.Task[None]) -> None:
        self._ending.add(wait)
        wait.add_done_callback(self._ending.discard)
        wait.cancel()

    def _groups(self) -> set[tuple[str, ...]]:
        queues = tuple(sorted(set(self._queues)))
        if not queues:
            return set()
        return {(queue,) for queue in queues} if self._store.link.spread else {queues}

    async def _wait_on(self, queues: tuple[str, ...]) -> None:
        """Wait for rings at these queues, through every outage."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._listen_once(queues)
            except (*FAULTS, BrokerError):
                await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter
                pause = min(pause * 2, _LONGEST_PAUSE)
                # What was rung meanwhile went nowhere.
                self._ring()

    async def _listen_once(self, queues: tuple[str, ...]) -> None:
        roots = {self._key(queue): queue for queue in queues}
        wait = pack(("BLPOP", *roots, _WAIT))
        connection = await self._store.link.dial(self._store.root(queues[0]))
        try:
            while True:
                await connection.send([wait])
                async with asyncio.timeout(_WAIT + _SLACK):
                    rung = await connection.reply()
                if isinstance(rung, ReplyError):
                    # UNBLOCKED, MOVED or READONLY: the queue lives elsewhere now.
                    raise rung
                if rung:
                    self._seat.rung.add(roots[rung[0]])
                    self._ring()
        finally:
            await hang_up(connection)

    def _key(self, queue: str) -> bytes:
        return self._store.root(queue) + f":wake:{self._worker}".encode()

    async def _leave(self) -> None:
        """Take the worker out of the idle ones, lest a ring goes to nobody."""
        idle = [
            self._store.plain("SREM", self._store.root(queue), ":idle", self._worker)
            for queue in dict.fromkeys(self._queues)
        ]
        with suppress(BrokerError):
            await self._store.ask(*idle)
