"""One connection through the proxy: two lanes, one for each direction."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from tests.faults.dialects import Dialect, Sent
from tests.faults.rules import Act, Command, Phase

_CHUNK = 65_536
# Bounds what waits in a slow lane; the sender then feels the backpressure.
_WAITING = 1_000
_RST_ON_CLOSE = struct.pack("ii", 1, 0)

Item = bytes | Act
Judge = Callable[[bytes], Iterator[Item]]


class Faults(Protocol):
    """What the connections ask the engine of the proxy."""

    delay: float
    swallowing: bool
    flow_to_server: asyncio.Event
    flow_to_client: asyncio.Event

    def register(self, sent: Sent, connection: int) -> Command: ...

    def consult(self, command: Command, phase: Phase) -> Act: ...

    def spend(self, size: int, *, to_server: bool) -> tuple[int, Act | None]: ...


class Lane:
    """One direction: read, judge, delay, write.

    What judging decides to do with the connection travels in the queue behind the bytes that came
    before it, so that those still arrive.
    """

    def __init__(
        self,
        link: "Link",
        judge: Judge,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flow: asyncio.Event,
    ) -> None:
        self._link = link
        self._judge = judge
        self._reader = reader
        self._writer = writer
        self._flow = flow
        self._queue: asyncio.Queue[tuple[float, Item | None]] = asyncio.Queue(_WAITING)
        self._to_server = writer is link.server

    async def run(self) -> None:
        """Carry bytes until the sender has ended."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._write())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while True:
                await self._flow.wait()
                data = await self._reader.read(_CHUNK)
                if not data:
                    break
                if self._link.engine.swallowing:
                    self._link.spoiled = True
                    continue
                for item in self._judge(data):
                    await self._queue.put((loop.time() + self._link.engine.delay, item))
        await self._queue.put((loop.time() + self._link.engine.delay, None))

    async def _write(self) -> None:
        while True:
            due, item = await self._queue.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            await self._flow.wait()
            await self._link.speaking.wait()
            if item is None:
                break
            if isinstance(item, Act):
                self._link.end(item)
            else:
                await self._deliver(item)
        if self._to_server:
            self._link.hang_up_on_server()
        else:
            await hang_up(self._writer)

    async def _deliver(self, raw: bytes) -> None:
        allowed, act = self._link.engine.spend(len(raw), to_server=self._to_server)
        # A receiver that is gone must not stop the other lane, nor what is left in this one.
        with contextlib.suppress(ConnectionError):
            self._writer.write(raw[:allowed])
            await self._writer.drain()
        if act is not None:
            self._link.end(act)


class Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(
        self,
        engine: Faults,
        number: int,
        dialect: Dialect,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.engine = engine
        self.number = number
        self.client = client[1]
        self.server = server[1]
        # Bytes were swallowed: this connection can never be whole again.
        self.spoiled = False
        self.speaking = asyncio.Event()
        self.speaking.set()
        self._dialect = dialect
        self._ended = False
        self._lanes = (
            Lane(self, self._judge_client, client[0], server[1], engine.flow_to_server),
            Lane(self, self._judge_server, server[0], client[1], engine.flow_to_client),
        )

    async def run(self) -> None:
        """Carry bytes both ways until both sides have ended."""
        try:
            async with asyncio.TaskGroup() as group:
                for lane in self._lanes:
                    group.create_task(lane.run())
        finally:
            self.client.transport.abort()
            self.server.transport.abort()

    def end(self, act: Act) -> None:
        """Do to this connection what `act` says; the server has got all that was sent before."""
        if act is Act.SILENCE:
            self.speaking.clear()
        elif act is Act.RESET:
            reset(self.client)
            self.server.close()
        elif act is Act.CLOSE:
            self.client.close()
            self.server.close()

    def hang_up_on_server(self) -> None:
        """Send FIN to the server, after all that is on its way."""
        with contextlib.suppress(OSError):
            self.server.write_eof()

    def reset(self) -> None:
        """Send RST to both sides, now."""
        reset(self.client)
        reset(self.server)

    def _judge_client(self, data: bytes) -> Iterator[Item]:
        passing = bytearray()
        for sent in self._dialect.from_client(data):
            if self._ended:
                break
            command = self.engine.register(sent, self.number)
            act = self.engine.consult(command, "before") if command.name else Act.FORWARD
            if act is Act.FORWARD:
                passing += sent.raw
                if command.name:
                    self._dialect.awaits(command)
            elif act is not Act.DROP:
                yield bytes(passing)
                yield self._ending(act)
                return
        if passing:
            yield bytes(passing)

    def _judge_server(self, data: bytes) -> Iterator[Item]:
        passing = bytearray()
        for answer in self._dialect.from_server(data):
            if self._ended:
                break
            act = self._worst(answer.to)
            if act is Act.FORWARD:
                passing += answer.raw
            elif act is not Act.DROP:
                yield bytes(passing)
                yield self._ending(act)
                return
        if passing:
            yield bytes(passing)

    def _worst(self, answered: tuple[Command, ...]) -> Act:
        # One answer of PostgreSQL may complete several commands, of which any may be stopped.
        acts = [self.engine.consult(command, "after") for command in answered]
        return next((act for act in acts if act is not Act.FORWARD), Act.FORWARD)

    def _ending(self, act: Act) -> Act:
        self._ended = True
        return act


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection after all that was written to it is on its way."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    writer.transport.abort()
