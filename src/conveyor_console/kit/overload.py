"""More requests than can be served: the rest is told at once to come back, so that those that were
accepted stay quick and memory does not grow."""

from __future__ import annotations

from collections.abc import Collection

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from conveyor_console.kit.problems import MEDIA_TYPE

RETRY_AFTER = 1
"""Seconds."""
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
    """Lets `most` requests in at a time. Paths in `exempt` always get in and do not count: probes,
    and streams, which stay."""

    def __init__(self, app: ASGIApp, *, most: int, exempt: Collection[str] = ()) -> None:
        self._app = app
        self._most = most
        self._exempt = frozenset(exempt)
        self.now = 0
        """Requests that are being served."""
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        if self.now >= self._most:
            self.refused += 1
            await send({"type": "http.response.start", "status": 503, "headers": list(_HEADERS)})
            await send({"type": "http.response.body", "body": _BODY})
            return
        self.now += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.now -= 1
