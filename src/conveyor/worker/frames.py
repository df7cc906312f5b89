"""Messages between a process and the processes it started: length-prefixed MessagePack on pipes.

A frame is four bytes of length (little endian) and a MessagePack value. Frames up to `ATOMIC`
bytes are written whole or not at all, also into a pipe that does not block.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

ATOMIC = 4_000
"""Bytes a pipe takes in one piece everywhere (PIPE_BUF is at least 4096 where it matters)."""
_CHUNK = 65_536
_PREFIX = 4
_encoder = msgspec.msgpack.Encoder()


def frame(message: Any) -> bytes:
    """Encode a message with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_PREFIX, "little") + body


def write_frame(fd: int, message: Any) -> None:
    """Write a whole message to a blocking pipe. Raises `OSError` when nobody reads any more."""
    rest = memoryview(frame(message))
    while rest:
        rest = rest[os.write(fd, rest) :]


def read_frames(fd: int) -> Iterator[bytes]:
    """Yield message bodies from a blocking pipe until its other end is closed."""
    cutter = FrameCutter()
    while chunk := _read(fd):
        yield from cutter.feed(chunk)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        raise
    except OSError:
        return b""


class FrameCutter:
    """Cuts a stream of bytes into message bodies."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes as they come; return the bodies that are complete by now."""
        self._pending += chunk
        bodies = []
        while len(self._pending) >= _PREFIX:
            end = _PREFIX + int.from_bytes(self._pending[:_PREFIX], "little")
            if len(self._pending) < end:
                break
            bodies.append(bytes(self._pending[_PREFIX:end]))
            del self._pending[:end]
        return bodies


class FrameReader:
    """Calls `on_frame(body)` on the running loop for each message that comes in."""

    def __init__(self, fd: int, on_frame: Callable[[bytes], Any]) -> None:
        self._fd = fd
        self._on_frame = on_frame
        self._cutter = FrameCutter()
        self._loop = asyncio.get_running_loop()
        self._open = True
        if os.name == "posix":
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._readable)
        else:
            # Windows has no readiness for pipes.
            threading.Thread(target=self._pump, name="conveyor-frames", daemon=True).start()

    def drain(self) -> None:
        """Deliver what is in the pipe already: the last words of a process that has ended."""
        while self._open and os.name == "posix" and self._readable():
            pass

    def close(self) -> None:
        """Stop reading and close the descriptor. Safe to call twice."""
        if not self._open:
            return
        self._open = False
        if os.name == "posix":
            self._loop.remove_reader(self._fd)
        with suppress(OSError):
            os.close(self._fd)

    def _readable(self) -> bool:
        try:
            chunk = _read(self._fd)
        except BlockingIOError:
            return False
        if not chunk:
            self.close()
            return False
        self._deliver(chunk)
        return True

    def _deliver(self, chunk: bytes) -> None:
        for body in self._cutter.feed(chunk):
            self._on_frame(body)

    def _pump(self) -> None:
        while chunk := _read(self._fd):
            self._loop.call_soon_threadsafe(self._deliver, chunk)
