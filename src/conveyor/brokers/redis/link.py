"""The way to the store, whatever its shape: one server, Sentinels with a primary, a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, RedisClusterException, TryAgainError

from conveyor.brokers.redis.address import Address
from conveyor.brokers.redis.faults import FAULTS, translate
from conveyor.brokers.redis.server import Argument, Command, Server
from conveyor.core.errors import BrokerUnavailable

_REDIRECTIONS = 8
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

    async def dial(self, root: bytes) -> AbstractConnection:
        """Return a connection of your own to the server that has the keys under `root`."""

    async def close(self) -> None:
        """Close every connection."""


def make_link(address: Address) -> Link:
    """Return the link for an address; nothing is connected yet."""
    if address.kind == "cluster":
        return ClusterLink(address)
    return SingleLink(address)


def _login(address: Address) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.tls and address.ca:
        options["ssl_ca_certs"] = address.ca
    return options


def new_connection(address: Address, host: str, port: int) -> AbstractConnection:
    """Return a connection that is not connected yet."""
    kind = SSLConnection if address.tls else Connection
    return kind(
        host=host,
        port=port,
        db=address.db,
        protocol=2,
        driver_info=None,
        socket_keepalive=True,
        **_login(address),
    )


async def _connected(connection: AbstractConnection) -> AbstractConnection:
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        # Whoever gave up waiting must not leave half a connection behind.
        await connection.disconnect(nowait=True)
        raise
    return connection


class SingleLink:
    """One server, or the primary that the Sentinels name: asked again for every new connection."""

    spread = False

    def __init__(self, address: Address) -> None:
        self._address = address
        self._sentinel: Sentinel | None = None
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

    async def dial(self, root: bytes) -> AbstractConnection:
        """Return a connection of your own."""
        return await self._server.dial()

    async def close(self) -> None:
        """Close every connection."""
        await self._server.close()
        if self._sentinel is not None:
            for sentinel in self._sentinel.sentinels:
                await sentinel.aclose()

    async def _dial(self) -> AbstractConnection:
        address = self._address
        connection: AbstractConnection
        if address.kind == "unix":
            connection = UnixDomainSocketConnection(
                path=address.path, db=address.db, protocol=2, driver_info=None, **_login(address)
            )
        else:
            host, port = await self._primary()
            connection = new_connection(address, host, port)
        return await _connected(connection)

    async def _primary(self) -> tuple[str, int]:
        address = self._address
        if address.kind == "server":
            return address.hosts[0]
        if self._sentinel is None:
            self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
                address.hosts,
                sentinel_kwargs={
                    "socket_timeout": address.timeout / 2,
                    "socket_connect_timeout": address.timeout / 2,
                    "retry": Retry(NoBackoff(), 0),
                    "protocol": 2,
                    "driver_info": None,
                },
            )
        try:
            host, port = await self._sentinel.discover_master(address.service)
        except MasterNotFoundError as exc:
            raise BrokerUnavailable(f"Redis {self.where} cannot be reached: {exc}") from exc
        return str(host), int(port)


class ClusterLink:
    """A Redis Cluster. redis-py knows the topology; the conversations are our own, so that what was
    sent is known to have been sent, and WAIT follows its write on the same connection.
    """

    spread = True

    def __init__(self, address: Address) -> None:
        self._address = address
        self.where = address.shown
        self._servers: dict[tuple[str, int], Server] = {}
        self._lock = asyncio.Lock()
        self._map: RedisCluster | None = None

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
            if any(isinstance(replies[k], TryAgainError) for k in places):
                if loop.time() > deadline:
                    break
                await asyncio.sleep(_TRY_AGAIN)
            else:
                redirections += 1
        return replies

    async def everywhere(self, *words: Argument) -> list[Any]:
        """Run one command on every primary."""
        replies: list[Any] = []
        for node in (await self._topology()).get_primaries():
            replies += await self._server(node.host, int(node.port)).run([Command(b"", words)])
        return replies

    async def dial(self, root: bytes) -> AbstractConnection:
        """Return a connection of your own to the primary of this slot."""
        return await (await self._owner(root)).dial()

    async def close(self) -> None:
        """Close every connection."""
        for server in self._servers.values():
            await server.close()
        if self._map is not None:
            await self._map.aclose()
            self._map = None

    async def _run_at_owners(
        self,
        commands: Sequence[Command],
        places: list[int],
        replies: list[Any],
        wait: tuple[Argument, ...] | None,
    ) -> None:
        groups: dict[Server, list[int]] = {}
        for k in places:
            groups.setdefault(await self._owner(commands[k].root), []).append(k)

        async def run_group(server: Server, group: list[int]) -> None:
            found = await server.run([commands[k] for k in group], wait=wait)
            for k, reply in zip(group, found, strict=True):
                replies[k] = reply

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
        if any(isinstance(replies[k], MovedError) for k in places):
            await self._forget_topology()
        for k in places:
            reply = replies[k]
            if isinstance(reply, AskError) and not isinstance(reply, MovedError):
                server = self._server(reply.host, reply.port)
                (replies[k],) = await server.run([commands[k]], wait=wait, asking=True)

    async def _owner(self, root: bytes) -> Server:
        node = (await self._topology()).get_node_from_key(root.decode())
        if node is None:
            raise BrokerUnavailable(f"Redis Cluster at {self.where}: nobody serves this slot")
        return self._server(node.host, int(node.port))

    def _server(self, host: str, port: int) -> Server:
        place = (host, port)
        if place not in self._servers:

            async def dial() -> AbstractConnection:
                connection = new_connection(self._address, host, port)
                return await _connected(connection)

            self._servers[place] = Server(dial, f"{host}:{port}", self._address.timeout)
        return self._servers[place]

    async def _topology(self) -> RedisCluster:
        if self._map is not None:
            return self._map
        async with self._lock:
            if self._map is None:
                self._map = await self._discover()
            return self._map

    async def _discover(self) -> RedisCluster:
        address = self._address
        cluster = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            ssl=address.tls,
            protocol=2,
            driver_info=None,
            **{**_login(address), "socket_timeout": address.timeout / 2},
        )
        try:
            async with asyncio.timeout(address.timeout):
                await cluster.initialize()
        except (*FAULTS, RedisClusterException) as exc:
            await cluster.aclose()
            raise translate(exc, self.where) from exc
        return cluster

    async def _forget_topology(self) -> None:
        forgotten, self._map = self._map, None
        if forgotten is not None:
            await forgotten.aclose()


def _elsewhere(replies: list[Any], places: list[int]) -> list[int]:
    """Return the places of those that were not run where they were sent."""
    return [k for k in places if isinstance(replies[k], (AskError, TryAgainError))]
