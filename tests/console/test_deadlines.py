"""How long a request may take: an answer, a 503, or a stream that began."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from conveyor_console.kit.deadlines import Deadline


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if path == "/own":
        raise TimeoutError("of something else")
    await Request(scope, receive).body()
    if path == "/never":
        await asyncio.Event().wait()
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"late"})
        return
    await PlainTextResponse("done")(scope, receive, send)


def _client(seconds: float) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Deadline(_app, of=lambda _: seconds))
    return httpx.AsyncClient(transport=transport, base_url="http://x")


async def test_what_never_ends_is_answered() -> None:
    async with _client(0.02) as client:
        for method, words in (("GET", "try again"), ("POST", "look before you send it again")):
            answer = await client.request(method, "/never")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert answer.headers["content-type"] == "application/problem+json"
            assert words in answer.json()["detail"]
        assert (await client.get("/stream")).text == "late"
        with pytest.raises(TimeoutError, match="of something else"):
            await client.get("/own")


async def test_who_sends_slowly_is_waited_for() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.02)
            yield b"x"

    async with _client(0.03) as client:
        assert (await client.post("/", content=slowly())).text == "done"
