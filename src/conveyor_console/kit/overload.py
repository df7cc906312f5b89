"""More requests than can be served: the rest is told at once to come back, so that those that were
accepted stay quick and memory does not grow.

How many are served at a time follows from how long they take: more wait than are served when they
take longer than `TARGET` on average, so the limit shrinks; else it grows again, up to `most`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import monotonic

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conveyor_console.kit.problems import MEDIA_TYPE

RETRY_AFTER = 1
"""Seconds."""
TARGET = 0.05
"""Seconds that requests may take on average."""
LEAST = 8
"""Requests that are always let in."""
_WINDOW = 0.1
"""Seconds after which the limit is looked at anew."""
_ENOUGH = 8
"""Requests that say something about an average."""
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


class InFlight:
    """Lets up to `most` requests in at a time. Paths in `exempt` always get in and do not count:
    probes, and streams, which stay."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        most: int,
        exempt: Collection[str] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._app = app
        self._most = most
        self._clock = clock
        self._seconds, self._count, self._since = 0.0, 0, clock()
        self.limit = float(most)
        self._exempt = frozenset(exempt)
        self.now = 0
        """Requests that are being served."""
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        if self.now >= self.limit:
            self.refused += 1
            await send({"type": "http.response.start", "status": 503, "headers": list(_HEADERS)})
            await send({"type": "http.response.body", "body": _BODY})
            return
        self.now += 1
        began = self._clock()
        try:
            await self._app(scope, self._waiting(receive), send)
        finally:
            self.now -= 1
            self._learn(began)

    def _learn(self, began: float) -> None:
        """Move the limit by how long requests took."""
        now = self._clock()
        self._seconds += now - began
        self._count += 1
        if self._count < _ENOUGH or now - self._since < _WINDOW:
            return
        slow = self._seconds / self._count > TARGET
        least = min(LEAST, self._most)
        self.limit = max(least, self.limit * 0.9) if slow else min(self._most, self.limit + 1)
        self._seconds, self._count, self._since = 0.0, 0, now

    def _waiting(self, receive: Receive) -> Receive:
        """A request that waits for its body does not count: who sends slowly blocks nobody."""

        async def uncounted() -> Message:
            self.now -= 1
            try:
                return await receive()
            finally:
                self.now += 1

        return uncounted
