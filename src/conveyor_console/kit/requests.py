"""What every request passes before it reaches a route: size, headers, an id."""

from __future__ import annotations

import re
from asyncio import get_running_loop, timeout_at
from collections.abc import Callable, Mapping, Sequence

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conveyor_console.kit.problems import Problem, response

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
PATIENCE, SLOWEST = 20.0, 16_384.0
"""Seconds that a body may take, and bytes a second that get it more."""
_HSTS = "max-age=31536000; includeSubDomains"


class SafeHeaders:
    """Adds the headers that make browsers careful, and keeps API answers out of caches."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._https:
                    headers["Strict-Transport-Security"] = _HSTS
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, careful)


class TrustedHosts:
    """Answers requests for hosts that are ours: what a `Host` header says ends up in links. A name
    may be `*.example.com`; `*` is every host."""

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        wrong = None if scope["type"] != "http" else self._wrong(_hosts(scope))
        if wrong is None:
            await self._app(scope, receive, send)
        else:
            await response(Request(scope), wrong)(scope, receive, send)

    def _wrong(self, hosts: Sequence[str]) -> Problem | None:
        """Return what is wrong with the `Host` headers of a request, if anything."""
        if "*" in self._allowed:
            return None
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            return Problem(400, "the request needs one Host header that names a host")
        host = found[1].lower().rstrip(".")
        _, _, parent = host.partition(".")
        parents = []
        while parent:
            parents.append(f"*.{parent}")
            _, _, parent = parent.partition(".")
        if self._allowed.isdisjoint({host, *parents}):
            return Problem(421, "this is not a host that CONVEYOR_ALLOWED_HOSTS names")
        return None


def _hosts(scope: Scope) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]


class BodyLimit:
    """Refuses bodies that are too large before they are in memory: by their announced length, and
    by what really comes. `of` says how many bytes a path may take. A body that trickles in is not
    waited for: it may take `patience` seconds, and more only at `SLOWEST` bytes a second."""

    def __init__(
        self, app: ASGIApp, *, of: Callable[[str], int], patience: float = PATIENCE
    ) -> None:
        self._app = app
        self._of = of
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._of(scope["path"])
        announced = _length(dict(scope["headers"]))
        if announced is not None and announced > most:
            await response(Request(scope), too_large(most))(scope, receive, send)
            return
        came, ended = 0, False
        begun = get_running_loop().time()

        async def counted() -> Message:
            nonlocal came, ended
            if ended:  # what comes now is the end of the connection, whenever
                return await receive()
            try:
                async with timeout_at(begun + self._patience + came / SLOWEST):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, "the body came too slowly", {"Connection": "close"}
                ) from None
            ended = not message.get("more_body", False)
            came += len(message.get("body", b""))
            if came > most:
                # FastAPI turns other errors amid a body into a 400.
                raise HTTPException(413, too_large(most).detail)
            return message

        await self._app(scope, counted, send)


def too_large(most: int) -> Problem:
    """The answer to a body above the limit."""
    return Problem(413, f"the body is larger than {most:,} bytes")


def _length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() else None
