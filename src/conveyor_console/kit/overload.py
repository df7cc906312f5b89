"""More requests than can be served: the rest is told at once to come back, so that those that were
accepted stay quick and memory does not grow.

How many are served at a time follows from whether they queue. A request that queues takes longer
than one like it took at best; when for a while not even one of them was quick (as in CoDel, the
least delay tells a standing queue from a burst, and work that is slow by nature from work that
waits), the limit shrinks, else it grows again, up to `most`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import monotonic

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conveyor_console.kit.problems import MEDIA_TYPE

RETRY_AFTER = 1
"""Seconds."""
TARGET = 0.03
"""Seconds that at least one request of a while must not have waited longer than."""
LEAST = 8
"""Requests that are always let in."""
_WINDOW = 0.1
"""Seconds after which the limit is looked at anew."""
_ENOUGH = 8
"""Requests that say something about a delay."""
_FORGET = 0.0001
"""Of the distance to a slower request, how much the best time of its route follows it."""
_MOST_ROUTES = 1_000
MOST_SLOW = 32
"""Requests of the slow paths at a time."""
_BODY = orjson.dumps(
    {
        "type": "about:blank",
        "title": "Unavailable",
        "status": 503,
        "detail": f"too many requests at once: try again in {RETRY_AFTER} s",
        "instance": "/",
    }
)
_HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"content-length", str(len(_BODY)).encode()),
    (b"retry-after", str(RETRY_AFTER).encode()),
    (b"cache-control", b"no-store"),
]


class Delays:
    """How long requests waited, told from how long they took and what their like took at best."""

    def __init__(self) -> None:
        self._best: dict[object, float] = {}

    def of(self, route: object, seconds: float) -> float:
        """Take a request in; returns the seconds that it waited."""
        best = self._best.get(route, seconds)
        if len(self._best) > _MOST_ROUTES:
            self._best.clear()
        self._best[route] = min(seconds, best + (seconds - best) * _FORGET)
        return seconds - min(seconds, best)


class InFlight:
    """Lets up to `most` requests in at a time. Paths in `exempt` always get in and do not count:
    probes, and streams, which stay. Paths in `slow` wait by nature, for threads of their own: they
    have a bound of their own, so that neither keeps the other out."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        most: int,
        exempt: Collection[str] = (),
        slow: Collection[str] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._app = app
        self._most = most
        self._clock = clock
        self._delays = Delays()
        self._least, self._count, self._since, self._full = float("inf"), 0, clock(), False
        self.limit = float(most)
        self._exempt = frozenset(exempt)
        self._slow = frozenset(slow)
        self._slow_now = 0
        self.now = 0
        """Requests that are being served, without the slow ones."""
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
        elif scope["path"] in self._slow:
            await self._serve_slow(scope, receive, send)
        elif self.now >= self.limit:
            self._full = True
            await self._refuse(send)
        else:
            self.now += 1
            began = self._clock()
            try:
                await self._app(scope, self._waiting(receive), send)
            finally:
                self.now -= 1
                self._learn(scope, began)

    async def _serve_slow(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._slow_now >= MOST_SLOW:
            await self._refuse(send)
            return
        self._slow_now += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._slow_now -= 1

    async def _refuse(self, send: Send) -> None:
        self.refused += 1
        await send({"type": "http.response.start", "status": 503, "headers": list(_HEADERS)})
        await send({"type": "http.response.body", "body": _BODY})

    def _learn(self, scope: Scope, began: float) -> None:
        """Move the limit by how long requests waited."""
        now = self._clock()
        route = scope.get("method"), getattr(scope.get("route"), "path", None)
        self._least = min(self._least, self._delays.of(route, now - began))
        self._count += 1
        if self._count < _ENOUGH or now - self._since < _WINDOW:
            return
        if self._least > TARGET:
            self.limit = max(min(LEAST, self._most), self.limit * 0.9)
        elif self._full:
            self.limit = min(self._most, self.limit * 1.05 + 1)
        else:
            self.limit = min(self._most, self.limit + 1)
        self._least, self._count, self._since, self._full = float("inf"), 0, now, False

    def _waiting(self, receive: Receive) -> Receive:
        """A request that waits for its body does not count: who sends slowly blocks nobody."""

        async def uncounted() -> Message:
            self.now -= 1
            try:
                return await receive()
            finally:
                self.now += 1

        return uncounted
