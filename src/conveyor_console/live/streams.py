"""Readers of event streams: frames that wait for each, bounded, and who writes them out.

A reader costs no task of its own while nothing happens: the one that the server gave its request
waits for the disconnect, and one that writes lives only while there is something to write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Send

from conveyor_console.live import frames

MOST_FRAMES = 32
MOST_BYTES = 262_144
HEARTBEAT = 15.0
"""Seconds between signs of life; who may still read is asked then too."""
STALLED = 60.0
"""Seconds after which a reader that takes nothing is dropped."""
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_RETRY = b"retry: 2000\n\n"
Check = Callable[[], Awaitable[bool]]


class Stream:
    """One reader. `topics` are what it wants, `allowed` says whether it still may."""

    __slots__ = (
        "_bytes", "_ended", "_frames", "_held", "_send", "_writer", "_writing_since",
        "allowed", "beat_at", "closed", "task", "topics",
    )  # fmt: skip

    def __init__(self, topics: frozenset[str], allowed: Check, now: float) -> None:
        self.topics = topics
        self.allowed = allowed
        self.beat_at = now + HEARTBEAT
        self.closed = False
        self.task: asyncio.Task[None] | None = None
        self._send: Send | None = None
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._held = True
        self._ended = False
        self._writer: asyncio.Task[None] | None = None
        self._writing_since = 0.0

    def push(self, chunk: bytes, now: float) -> None:
        """Give it a frame. What does not fit is dropped, all of it, for one `resync`."""
        if self._ended:
            return
        if len(self._frames) >= MOST_FRAMES or self._bytes + len(chunk) > MOST_BYTES:
            self._frames.clear()
            self._bytes = 0
            chunk = frames.resync("slow")
        self._frames.append(chunk)
        self._bytes += len(chunk)
        self._write(now)

    def release(self, first: list[bytes], now: float) -> None:
        """Begin to write: `first`, then what came meanwhile."""
        self._held = False
        self._frames.extendleft(reversed(first))
        self._bytes += sum(map(len, first))
        self._write(now)

    def end(self, reason: str, now: float) -> None:
        """Say why, and end."""
        if self._ended:
            return
        self._frames.append(frames.frame("end", {"reason": reason}))
        self._ended = True
        self._held = False
        self._write(now)

    def stalled(self, now: float) -> bool:
        """Whether it has not taken anything for too long."""
        return self._writer is not None and now - self._writing_since > STALLED

    def drop(self) -> None:
        """End at once, whatever it did not take."""
        self.closed = self._ended = True
        if self._writer is not None:
            self._writer.cancel()
        if self.task is not None:
            self.task.cancel()

    async def serve(self, receive: Receive, send: Send) -> None:
        """Answer, until the reader goes or the stream ends."""
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        await send({"type": "http.response.body", "body": _RETRY, "more_body": True})
        self._send = send
        self.task = asyncio.current_task()
        self._write(self.beat_at - HEARTBEAT)
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            if not self.closed or self.task is None:
                raise
            self.task.uncancel()
        finally:
            self.closed = self._ended = True
            self.task = None
            if self._writer is not None:
                self._writer.cancel()

    def _write(self, now: float) -> None:
        ready = self._send is not None and not self._held and not self.closed
        if ready and self._writer is None and self._frames:
            self._writing_since = now
            self._writer = asyncio.create_task(self._write_out())
            self._writer.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writer = None
        if not task.cancelled() and task.exception() is not None:
            self.drop()

    async def _write_out(self) -> None:
        assert self._send is not None  # noqa: S101 - see _write
        while self._frames:
            chunk = b"".join(self._frames)
            self._frames.clear()
            self._bytes = 0
            last = self._ended
            await self._send({"type": "http.response.body", "body": chunk, "more_body": not last})
