"""The way to the store, whatever its shape: one server, Sentinels with a primary, a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from conveyor.brokers.redis.address import Address, show
from conveyor.brokers.redis.server import Command, Server
from conveyor.brokers.redis.wire import Argument, ReplyError, Wire, code_of, open_wire
from conveyor.core.errors import BrokerUnavailable

if TYPE_CHECKING:
    from conveyor.brokers.redis.discovery import Place, Sentinels, Topology

_REDIRECTIONS = 8
_ELSEWHERE = frozenset({"ASK", "MOVED", "TRYAGAIN"})
_TRY_AGAIN = 0.05
"""Seconds to wait for a slot that is being moved."""


class Link(Protocol):
    """Runs commands where their keys are."""

    where: str
    """The address for messages."""
    spread: bool
    """Whether queues lie on several servers: then nothing is atomic across queues."""

    async def run(
        self,
        commands: Sequence[Command],
        *,
        atomic: bool = False,
        wait: tuple[Argument, ...] | None = None,
    ) -> list[Any]:
        """As `Server.run`."""

    async def everywhere(self, *words: Argument) -> list[Any]:
        """Run one command on every server that takes writes; errors are among the replies."""

    async def dial(self, root: bytes) -> Wire:
        """Return a connection of your own to the server that has the keys under `root`."""

    async def close(self) -> None:
        """Close every connection."""


def make_link(address: Address) -> Link:
    """Return the link for an address; nothing is connected yet."""
    if address.kind == "cluster":
        return ClusterLink(address)
    return SingleLink(address)


class SingleLink:
    """One server, or the primary that the Sentinels name: asked again for every new connection."""

    spread = False

    def __init__(self, address: Address) -> None:
        self._address = address
        self._sentinels: Sentinels | None = None
        self.where = address.shown
        self._server = Server(self._dial, self.where, address.timeout)

    async def run(
        self,
        commands: Sequence[Command],
        *,
        atomic: bool = False,
        wait: tuple[Argument, ...] | None = None,
    ) -> list[Any]:
        """As `Server.run`."""
        return await self._server.run(commands, atomic=atomic, wait=wait)

    async def everywhere(self, *words: Argument) -> list[Any]:
        """Run one command on the server."""
        return await self._server.run([Command(b"", words)])

    async def dial(self, root: bytes) -> Wire:
        """Return a connection of your own."""
        return await self._server.dial()

    async def close(self) -> None:
        """Close every connection."""
        await self._server.close()
        if self._sentinels is not None:
            await self._sentinels.close()

    async def _dial(self) -> Wire:
        if self._address.kind == "unix":
            return await open_wire(self._address)
        return await open_wire(self._address, *await self._primary())

    async def _primary(self) -> Place:
        if self._address.kind == "server":
            return self._address.hosts[0]
        if self._sentinels is None:
            from conveyor.brokers.redis.discovery import Sentinels

            self._sentinels = Sentinels(self._address)
        return await self._sentinels.primary()


class ClusterLink:
    """A Redis Cluster. redis-py finds the topology; the conversations are our own, so that what was
    sent is known to have been sent, and WAIT follows its write on the same connection.
    """

    spread = True

    def __init__(self, address: Address) -> None:
        self._address = address
        self.where = address.shown
        self._servers: dict[Place, Server] = {}
        self._lock = asyncio.Lock()
        self._map: Topology | None = None

    async def run(
        self,
        commands: Sequence[Command],
        *,
        atomic: bool = False,
        wait: tuple[Argument, ...] | None = None,
    ) -> list[Any]:
        """As `Server.run`, at every server at the same time; `atomic` holds per queue only."""
        replies: list[Any] = [None] * len(commands)
        places = list(range(len(commands)))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._address.timeout
        redirections = 0
        while places and redirections <= _REDIRECTIONS:
            await self._run_at_owners(commands, places, replies, wait)
            places = _elsewhere(replies, places)
            await self._follow(commands, places, replies, wait)
            places = _elsewhere(replies, places)
            if any(code_of(replies[k]) == "TRYAGAIN" for k in places):
                if loop.time() > deadline:
                    break
                await asyncio.sleep(_TRY_AGAIN)
            else:
                redirections += 1
        return replies

    async def everywhere(self, *words: Argument) -> list[Any]:
        """Run one command on every primary."""
        replies: list[Any] = []
        for place in (await self._topology()).primaries():
            replies += await self._server(place).run([Command(b"", words)])
        return replies

    async def dial(self, root: bytes) -> Wire:
        """Return a connection of your own to the primary of this slot."""
        return await self._server((await self._topology()).owner(root)).dial()

    async def close(self) -> None:
        """Close every connection."""
        for server in self._servers.values():
            await server.close()
        if self._map is not None:
            await self._map.close()
            self._map = None

    async def _run_at_owners(
        self,
        commands: Sequence[Command],
        places: list[int],
        replies: list[Any],
        wait: tuple[Argument, ...] | None,
    ) -> None:
        groups: dict[Place, list[int]] = {}
        for k in places:
            owner = (await self._topology()).owner(commands[k].root)
            groups.setdefault(owner, []).append(k)

        async def run_group(owner: Place, group: list[int]) -> None:
            found = await self._server(owner).run([commands[k] for k in group], wait=wait)
            for k, reply in zip(group, found, strict=True):
                replies[k] = completed(reply, owner[0])

        try:
            results = await asyncio.gather(
                *(run_group(*entry) for entry in groups.items()), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except BrokerUnavailable:
            # Its node may be gone for good: the next call asks the others who took over.
            await self._forget_topology()
            raise

    async def _follow(
        self,
        commands: Sequence[Command],
        places: list[int],
        replies: list[Any],
        wait: tuple[Argument, ...] | None,
    ) -> None:
        """Go where the replies point: for good (MOVED), or this once (ASK)."""
        if any(code_of(replies[k]) == "MOVED" for k in places):
            await self._forget_topology()
        for k in places:
            if code_of(replies[k]) == "ASK":
                server = self._server(place_of(replies[k]))
                (replies[k],) = await server.run([commands[k]], wait=wait, asking=True)

    def _server(self, place: Place) -> Server:
        if place not in self._servers:

            async def dial() -> Wire:
                return await open_wire(self._address, *place)

            self._servers[place] = Server(dial, show(*place), self._address.timeout)
        return self._servers[place]

    async def _topology(self) -> Topology:
        if self._map is not None:
            return self._map
        async with self._lock:
            if self._map is None:
                from conveyor.brokers.redis.discovery import Topology

                found = Topology(self._address)
                await found.discover()
                self._map = found
            return self._map

    async def _forget_topology(self) -> None:
        forgotten, self._map = self._map, None
        if forgotten is not None:
            await forgotten.close()


def completed(reply: Any, asked: str) -> Any:
    """Return the reply; an ASK without a host means the host that was asked, `asked`."""
    if code_of(reply) != "ASK" or place_of(reply)[0]:
        return reply
    return ReplyError(f"{str(reply).rpartition(':')[0]}{asked}:{place_of(reply)[1]}")


def place_of(redirection: ReplyError) -> Place:
    """Read `ASK <slot> <host>:<port>`: the host may be an IPv6 address, or left out."""
    host, _, port = str(redirection).split()[-1].rpartition(":")
    return host.strip("[]"), int(port)


def _elsewhere(replies: list[Any], places: list[int]) -> list[int]:
    """Return the places of those that were not run where they were sent."""
    return [k for k in places if code_of(replies[k]) in _ELSEWHERE]
