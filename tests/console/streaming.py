"""A reader of event streams, straight on the ASGI app: it may read slowly, or leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

PATIENCE = 10.0


class Reader:
    """Reads one stream."""

    def __init__(self, app: FastAPI, path: str, headers: Mapping[str, str]) -> None:
        path, _, query = path.partition("?")
        self._scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "client": ("127.0.0.1", 1), "server": ("x", 80),
            "headers": [(b"host", b"console.test")]
            + [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        self._app = app
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._asked = False
        self._rest = b""
        self.may_take = asyncio.Event()
        self.may_take.set()
        self.status = 0
        self.started = asyncio.Event()
        self.task = asyncio.create_task(self._app(self._scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.may_take.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.started.set()
            return
        self._chunks.put_nowait(message.get("body", b""))
        if not message.get("more_body", False):
            self._chunks.put_nowait(None)
            self._gone.set()

    async def frame(self) -> dict[str, Any] | None:
        """Return the next frame, a heartbeat as `{}`, None at the end."""
        async with asyncio.timeout(PATIENCE):
            while b"\n\n" not in self._rest:
                chunk = await self._chunks.get()
                if chunk is None:
                    return None
                self._rest += chunk
        text, self._rest = self._rest.split(b"\n\n", 1)
        lines = [line.partition(": ") for line in text.decode().splitlines()]
        found: dict[str, Any] = {name: value for name, _, value in lines if name and _}
        if "retry" in found:
            return await self.frame()
        if "data" in found:
            found["data"] = json.loads(found["data"])
        return found if "event" in found else {}

    async def until(self, event: str) -> dict[str, Any]:
        """Return the next frame of this event."""
        while True:
            found = await self.frame()
            assert found is not None, f"the stream ended before {event}"
            if found.get("event") == event:
                return found

    async def leave(self) -> None:
        """Disconnect."""
        self.may_take.set()
        self._gone.set()
        await asyncio.wait_for(self.task, PATIENCE)


@asynccontextmanager
async def reading(
    app: FastAPI, token: str, query: str = "", **headers: str
) -> AsyncIterator[Reader]:
    """Read a stream for a while."""
    reader = Reader(app, f"/api/v1/events{query}", {"Authorization": f"Bearer {token}", **headers})
    try:
        await asyncio.wait_for(reader.started.wait(), PATIENCE)
        yield reader
    finally:
        await reader.leave()
