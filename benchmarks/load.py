"""An open-model load generator for HTTP: requests begin when they are due, whether or not the
server has answered the ones before, and their latency counts from when they were due.

A closed-model one (wrk, a loop of awaits) sends less while the server is slow, and so never sees
how long the others would have waited.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

_TICK = 0.001
"""Seconds. uvloop counts in whole ones of these: with less it would not sleep, but take a core from
those that are measured."""


@dataclass
class Report:
    """What came of the requests: seconds of each answer by class, and all statuses."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    """Answers 429 and 503 that did not say when to come back."""
    took: float = 0.0
    unanswered: int = 0

    def add(self, status: int, seconds: float, head: bytes) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        if status in {429, 503}:
            self.refused.append(seconds)
            self.without_retry_after += b"retry-after:" not in head
        else:
            self.accepted.append(seconds)

    def line(self) -> str:
        """Say it in one line."""
        accepted = percentiles(self.accepted)
        return (
            f"accepted {len(self.accepted) / self.took:,.0f}/s ({accepted}), "
            f"refused {len(self.refused) / self.took:,.0f}/s ({percentiles(self.refused)}), "
            f"{self.without_retry_after} of these without Retry-After, "
            f"unanswered {self.unanswered}, statuses {dict(self.statuses)}"
        )


def percentiles(took: list[float]) -> str:
    """Return p50, p95, p99 and the maximum in milliseconds."""
    if not took:
        return "none"
    ordered = sorted(took)
    at = [ordered[int(len(ordered) * share)] * 1_000 for share in (0.5, 0.95, 0.99)]
    return f"p50 {at[0]:.1f} p95 {at[1]:.1f} p99 {at[2]:.1f} max {ordered[-1] * 1_000:.1f} ms"


class _Connection(asyncio.Protocol):
    """One request at a time, kept alive."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._due = 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._load.free(self)

    def send(self, request: bytes, due: float) -> None:
        """Begin a request that was due then."""
        self._due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        _, _, rest = head.partition(b"content-length:")
        if len(self._buffer) < end + 4 + int(rest.partition(b"\r")[0] or 0):
            return
        self._buffer = b""
        self._load.report.add(int(head[9:12]), perf_counter() - self._due, head)
        self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)


class Load:
    """Sends `request()` to one of the ports at `rate` a second, at random intervals as of many
    independent callers, over at most `connections` connections."""

    def __init__(
        self,
        ports: list[int],
        request: Callable[[], bytes],
        *,
        rate: float,
        connections: int = 256,
    ) -> None:
        self._ports = ports
        self._request = request
        self._rate = rate
        self._connections = connections
        self._free: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()
        self._open: set[_Connection] = set()
        self._resting, self._rested = False, asyncio.Event()
        self.report = Report()

    async def run(self, seconds: float) -> Report:
        """Send for so long, and wait for the answers for at most ten seconds more."""
        loop = asyncio.get_running_loop()
        for index in range(self._connections):
            port = self._ports[index % len(self._ports)]
            _, made = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port)
            self._open.add(made)
        began = perf_counter()
        due = self._times(began, began + seconds)
        following = next(due, None)
        while following is not None:
            now = perf_counter()
            while following is not None and following <= now:
                self._waiting.append(following)
                following = next(due, None)
            self._send()
            await asyncio.sleep(_TICK)
        self.report.took = perf_counter() - began
        await self._rest()
        return self.report

    def free(self, connection: _Connection) -> None:
        """Take the next request with this connection."""
        self._free.append(connection)
        self._send()
        self._look()

    def lost(self, connection: _Connection) -> None:
        """A connection has ended: nobody waits for it."""
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        self._look()

    def _look(self) -> None:
        if self._resting and not self._waiting and len(self._free) == len(self._open):
            self._rested.set()

    def _times(self, begin: float, end: float) -> Iterator[float]:
        dice = random.Random(1)
        at = begin
        while (at := at + dice.expovariate(self._rate)) < end:
            yield at

    def _send(self) -> None:
        while self._free and self._waiting:
            self._free.popleft().send(self._request(), self._waiting.popleft())

    async def _rest(self) -> None:
        self._resting = True
        self._look()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self._rested.wait()
        self.report.unanswered = len(self._waiting) + len(self._open) - len(self._free)
        for connection in list(self._open):
            connection.transport.close()
        await asyncio.sleep(0.05)


def http(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    """Write a request down."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
