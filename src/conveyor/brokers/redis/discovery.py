"""Who holds the keys: redis-py asks Sentinels and reads the map of a cluster. A single server needs
neither, so this module is imported only by those that do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import exceptions
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff

from conveyor.brokers.redis.address import Address
from conveyor.brokers.redis.faults import FAULTS, translate
from conveyor.brokers.redis.wire import NotNow, ReplyError
from conveyor.core.errors import BrokerUnavailable

Place = tuple[str, int]
"""A host and a port."""
_LOGIN = (exceptions.AuthenticationError, exceptions.AuthorizationError)


class Sentinels:
    """Those who know the primary of a service."""

    def __init__(self, address: Address) -> None:
        self._address = address
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

    async def primary(self) -> Place:
        """Return where the primary is. Raises `BrokerUnavailable` and what a `Wire` raises."""
        try:
            with _in_our_words():
                host, port = await self._sentinel.discover_master(self._address.service)
        except MasterNotFoundError as exc:
            raise BrokerUnavailable(
                f"Redis {self._address.shown} cannot be reached: {exc}"
            ) from exc
        return str(host), int(port)

    async def close(self) -> None:
        """Close the connections to them."""
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class Topology:
    """Which node of a cluster serves which slot, as known when it was discovered."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._map: RedisCluster

    async def discover(self) -> None:
        """Ask the cluster, one node after the other until one answers. Raises `BrokerError`."""
        address = self._address
        try:
            async with asyncio.timeout(address.timeout):
                # Not all clients should ask the same node.
                await self._ask_any(random.sample(address.hosts, len(address.hosts)))
        except exceptions.RedisClusterException as exc:
            raise _no_map(exc, address.shown) from exc
        except FAULTS as exc:
            raise translate(exc, address.shown) from exc

    async def _ask_any(self, places: list[Place]) -> None:
        for k, place in enumerate(places):
            self._map = _map_from(place, self._address)
            try:
                with _in_our_words():
                    await self._map.initialize()
            except BaseException as exc:
                await self.close()
                if k + 1 == len(places) or not isinstance(exc, Exception):
                    raise
            else:
                return

    def owner(self, root: bytes) -> Place:
        """Return the primary of the slot in which the keys under `root` lie."""
        node = self._map.get_node_from_key(root.decode())
        if node is None:
            raise BrokerUnavailable(
                f"Redis Cluster at {self._address.shown}: nobody serves this slot"
            )
        return node.host, int(node.port)

    def primaries(self) -> list[Place]:
        """Return every primary."""
        return [(node.host, int(node.port)) for node in self._map.get_primaries()]

    async def close(self) -> None:
        """Close the connections that discovering took."""
        await self._map.aclose()


def _map_from(place: Place, address: Address) -> RedisCluster:
    return RedisCluster(
        startup_nodes=[ClusterNode(*place)],
        # A node without a host of its own is found where we asked, at another port.
        address_remap=lambda found: (found[0] or place[0], found[1]),
        ssl=address.tls,
        protocol=2,
        driver_info=None,
        **_options(address),
    )


def _options(address: Address) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "socket_timeout": address.timeout / 2,
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.tls and address.ca:
        options["ssl_ca_certs"] = address.ca
    return options


def _no_map(exc: exceptions.RedisClusterException, where: str) -> BrokerUnavailable:
    if "mode is not" in str(exc):
        return BrokerUnavailable(
            f"Redis at {where} is no cluster: write redis:// for a single server"
        )
    return BrokerUnavailable(f"Redis at {where} cannot be reached: {exc}; is it running there?")


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Raise what a `Wire` would have raised."""
    try:
        yield
    except (MasterNotFoundError, exceptions.RedisClusterException):
        raise
    except exceptions.TimeoutError as exc:
        raise TimeoutError(str(exc)) from exc
    except exceptions.BusyLoadingError as exc:
        raise NotNow(f"LOADING {exc}") from exc
    except (exceptions.ResponseError, *_LOGIN) as exc:
        code = getattr(exc, "status_code", None)
        raise ReplyError(f"{code} {exc}" if code else str(exc)) from exc
    except exceptions.RedisError as exc:
        raise ConnectionError(str(exc)) from exc
