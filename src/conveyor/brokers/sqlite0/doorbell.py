"""Bells between processes: a datagram to the socket of every listening worker.

Sockets lie in a private folder derived from the database's path. A lost datagram costs a second,
because workers poll as well; where there are no Unix sockets, `data_version` is polled instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

HAS_SOCKETS = hasattr(socket, "AF_UNIX") and os.name == "posix"
_LOOK = 0.1
_DATAGRAM = b"!"


class Doorbell:
    """Rings the listeners of one database: here at once, elsewhere by a datagram."""

    def __init__(self, database: Path | None) -> None:
        self._database = database
        self._here: dict[Callable[[], Any], str] = {}
        self._sender: socket.socket | None = None
        self._folder: Path | None = None
        if database is not None and HAS_SOCKETS:
            name = hashlib.sha256(str(database).encode()).hexdigest()[:16]
            self._folder = Path(tempfile.gettempdir()) / f"conveyor-{os.getuid()}-{name}"

    def ring(self) -> None:
        """Wake every listener of this database."""
        for wake in list(self._here):
            wake()
        if self._folder is None:
            return
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - on the hot path
        except FileNotFoundError:
            return
        own = set(self._here.values())
        for name in names:
            if name not in own:
                self._send(name)

    def _send(self, name: str) -> None:
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        path = f"{self._folder}/{name}"
        try:
            self._sender.sendto(_DATAGRAM, path)
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(OSError):
                Path(path).unlink()
        except OSError:
            pass  # its buffer is full: it has been rung often enough

    @asynccontextmanager
    async def listen(
        self, worker: str, ring: Callable[[], Any], versions: Callable[[], sqlite3.Connection]
    ) -> AsyncIterator[None]:
        """Call `ring` at every bell while entered."""
        name = f"{worker}.{id(ring):x}"
        self._here[ring] = name
        try:
            if self._database is None:
                yield
            elif self._folder is not None:
                with _Bell(self._folder / name, ring):
                    yield
            else:
                async with _polling(ring, versions):
                    yield
        finally:
            del self._here[ring]

    def close(self) -> None:
        """Close the sending socket."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None


class _Bell:
    """A bound socket that the event loop watches."""

    def __init__(self, path: Path, ring: Callable[[], Any]) -> None:
        self._path = path
        self._ring = ring
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._path.parent.rmdir()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while self._socket.recv(16):
                pass
        self._ring()


@asynccontextmanager
async def _polling(
    ring: Callable[[], Any], versions: Callable[[], sqlite3.Connection]
) -> AsyncIterator[None]:
    async def poll() -> None:
        connection = versions()
        try:
            seen = None
            while True:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen = version
                    ring()
                await asyncio.sleep(_LOOK)
        finally:
            connection.close()

    task = asyncio.create_task(poll(), name="conveyor-sqlite-poll")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
