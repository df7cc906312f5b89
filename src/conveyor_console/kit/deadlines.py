"""No request is worked on without an end: what it waits for may never come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conveyor_console.kit.problems import Problem, response

log = logging.getLogger("conveyor.console")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Deadline:
    """Stops requests that have no answer after some seconds (`of` says how many for a path) and
    answers 503 for them. The time in which a caller sends a body does not count, and once an answer
    began it may take its time: a stream does."""

    def __init__(self, app: ASGIApp, *, of: Callable[[str], float]) -> None:
        self._app = app
        self._of = of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seconds = self._of(scope["path"])
        limit = asyncio.timeout(seconds)
        began = False

        async def sent(message: Message) -> None:
            nonlocal began
            if not began:
                began = True
                limit.reschedule(None)
            await send(message)

        async def received() -> Message:
            if began:
                return await receive()
            loop = asyncio.get_running_loop()
            left = (limit.when() or loop.time()) - loop.time()
            limit.reschedule(None)
            try:
                return await receive()
            finally:
                if not began:
                    limit.reschedule(loop.time() + left)

        try:
            async with limit:
                await self._app(scope, received, sent)
        except TimeoutError:
            if began or not limit.expired():
                raise
            log.error("%s %s: no answer after %g s", scope["method"], scope["path"], seconds)
            await response(Request(scope), _too_late(scope, seconds))(scope, receive, send)


def _too_late(scope: Scope, seconds: float) -> Problem:
    what = (
        "try again in a moment"
        if scope["method"] in _SAFE
        else "it may have been done all the same: look before you send it again"
    )
    return Problem(
        503, f"this was stopped after {seconds:g} s without an answer: {what}",
        headers={"Retry-After": "5"},
    )  # fmt: skip
