"""One connection to a server: words go out, replies come back in order. hiredis reads them.

redis-py has connections as well, but 7 MB of memory come with them, in each process of a worker.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from hiredis import ProtocolError, Reader, pack_command

from conveyor.brokers.redis.address import Address

Argument = bytes | str | int
_UNFINISHED = object()
_PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A silent server is taken for dead after 45 seconds."""
_NOT_NOW = ("LOADING", "ERR max number of clients reached")

# hiredis packs four times as fast as redis-py. Its stubs want a tuple of one.
pack = cast("Callable[[tuple[Argument, ...]], bytes]", pack_command)


class ReplyError(Exception):
    """The server's answer that a command failed. `str()` is all of it."""

    @property
    def code(self) -> str:
        """The first word, which says what kind it is: `MOVED`, `NOSCRIPT`, …"""
        return str(self).partition(" ")[0]


class NotNow(ReplyError):
    """The server takes no commands at all: it loads its data, or too many are connected."""


def code_of(reply: object) -> str:
    """Return the code of an error reply, '' for any other."""
    return reply.code if isinstance(reply, ReplyError) else ""


class Wire(asyncio.Protocol):
    """A connection. Made by `open_wire`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(
            protocolError=ConnectionError, replyError=_error, notEnoughData=_UNFINISHED
        )
        self._replies: deque[Any] = deque()
        self._lost: str | None = None
        self._awaited: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport
        self._watch: Callable[[], bool]

    async def send(self, packed: Sequence[bytes]) -> None:
        """Send what was packed. Raises `ConnectionError` when the connection is gone."""
        if self._lost is not None or self._transport.is_closing():
            raise ConnectionError(self._lost or "the connection was closed here")
        self._transport.writelines(packed)
        if self._room is not None:
            await self._room
            if self._lost is not None:
                raise ConnectionError(self._lost)

    async def reply(self) -> Any:
        """Return the next reply; a `ReplyError` is one. Raises `ConnectionError`, `NotNow`."""
        while not self._replies:
            if self._lost is not None:
                raise ConnectionError(self._lost)
            self._awaited = self._loop.create_future()
            try:
                await self._awaited
            finally:
                self._awaited = None
        reply = self._replies.popleft()
        if isinstance(reply, NotNow):
            raise reply
        return reply

    def is_usable(self) -> bool:
        """Whether it is alive and nothing is on its way that nobody has asked for."""
        if self._lost is not None or self._transport.is_closing() or self._replies:
            return False
        # What the loop has not heard yet: an end, or a stray reply, can be read.
        return not self._watch()

    def drop(self) -> None:
        """Close it at once; what was not sent yet is not sent."""
        self._transport.abort()

    async def close(self) -> None:
        """Close it and wait until it is closed."""
        self._transport.close()
        await asyncio.shield(self._gone)

    # -- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._watch = _watch(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Take replies in."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _UNFINISHED:
                self._replies.append(reply)
        except (ConnectionError, ProtocolError) as exc:
            self._end(f"the server speaks another protocol ({exc})")
            self._transport.abort()
        _wake(self._awaited)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self._end(str(exc) if exc is not None else "Connection closed by server")
        _wake(self._gone)

    def pause_writing(self) -> None:
        """Let who sends wait."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let who sends go on."""
        _wake(self._room)
        self._room = None

    def _end(self, why: str) -> None:
        self._lost = self._lost or why
        _wake(self._awaited)
        self.resume_writing()


async def open_wire(address: Address, host: str = "", port: int = 0) -> Wire:
    """Connect and log in; without a host, to the socket of the address.

    Raises `OSError`, `ReplyError`; whoever gives up waiting leaves no connection behind.
    """
    loop = asyncio.get_running_loop()
    if host:
        context = _context(address.ca) if address.tls else None
        _, wire = await loop.create_connection(Wire, host, port, ssl=context)
    else:
        _, wire = await loop.create_unix_connection(Wire, address.path)
    try:
        if host:
            _keep_alive(wire)
        await _introduce(wire, address)
    except BaseException:
        wire.drop()
        raise
    return wire


async def _introduce(wire: Wire, address: Address) -> None:
    words: list[tuple[Argument, ...]] = []
    if address.username is not None:
        words.append(("AUTH", address.username, address.password or ""))
    elif address.password is not None:
        words.append(("AUTH", address.password))
    if address.db:
        words.append(("SELECT", address.db))
    if not words:
        return
    await wire.send([pack(command) for command in words])
    for reply in [await wire.reply() for _ in words]:
        if isinstance(reply, ReplyError):
            raise reply


def _error(text: str) -> ReplyError:
    return (NotNow if text.startswith(_NOT_NOW) else ReplyError)(text)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


@lru_cache(maxsize=8)
def _context(ca: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(cafile=ca)
    return context


def _keep_alive(wire: Wire) -> None:
    sock = wire._transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _watch(sock: socket.socket) -> Callable[[], bool]:
    """Return a quick question: is there something to read, be it the end?"""
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return lambda: bool(poll.poll(0))
