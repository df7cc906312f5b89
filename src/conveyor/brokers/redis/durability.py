"""What the server keeps of an acknowledged push, and whether that is what was asked for (D24)."""

from __future__ import annotations

import logging
from typing import Any

from conveyor.brokers.redis.store import Store
from conveyor.brokers.redis.wire import Argument
from conveyor.core.errors import DurabilityUnmet

log = logging.getLogger("conveyor.redis")
_warned: set[str] = set()
"""Servers named in a warning already: one per process is enough."""
_SETTINGS = ("appendonly", "appendfsync", "maxmemory-policy")


class Durability:
    """The mode in force: `fast`, `fsync` or `replicated`; set by `settle`."""

    def __init__(self, asked: str, timeout: float) -> None:
        self.mode = asked
        self.wait: tuple[Argument, ...] | None = None
        """What follows every push, `replicated` only."""
        self._asked = asked
        self._wait_ms = max(1, round(timeout * 800))

    async def settle(self, store: Store) -> None:
        """Look at the server's settings and decide. Raises `DurabilityUnmet`."""
        lacking = await _lacking(store)
        if self._asked == "auto":
            self.mode = "fast" if lacking else "fsync"
            if lacking and store.link.where not in _warned:
                _warned.add(store.link.where)
                log.warning(
                    "Redis at %s: durability is 'fast': %s; say ?durability=fast in the broker URL "
                    "if that is meant",
                    store.link.where,
                    lacking,
                )
            return
        if self._asked == "fast":
            return
        if lacking:
            raise DurabilityUnmet(
                f"Redis at {store.link.where} does not keep durability={self._asked}: {lacking}"
            )
        if self._asked == "replicated":
            await self._find_replicas(store)

    async def _find_replicas(self, store: Store) -> None:
        for reply in store.checked(await store.link.everywhere("INFO", "replication")):
            if _info(reply).get("connected_slaves", "0") == "0":
                raise DurabilityUnmet(
                    f"Redis at {store.link.where} does not keep durability=replicated: "
                    "no replica is connected"
                )
        knows_waitaof = all(
            isinstance(reply, list) and reply and reply[0] is not None
            for reply in await store.link.everywhere("COMMAND", "INFO", "WAITAOF")
        )
        self.wait = (
            ("WAITAOF", 1, 1, self._wait_ms) if knows_waitaof else ("WAIT", 1, self._wait_ms)
        )


async def _lacking(store: Store) -> str:
    """Return what keeps the server from fsyncing every write, '' when nothing does."""
    for name in _SETTINGS:
        for reply in await store.link.everywhere("CONFIG", "GET", name):
            lacking = _judge(name, reply)
            if lacking:
                return lacking
    return ""


def _judge(name: str, reply: Any) -> str:
    if isinstance(reply, BaseException) or not isinstance(reply, list) or len(reply) < 2:
        return "its settings cannot be read (CONFIG GET is not allowed)"
    value = reply[1].decode()
    if name == "appendonly":
        return "" if value == "yes" else "it has no append-only file (appendonly no)"
    if name == "appendfsync":
        return "" if value == "always" else f"it does not sync every write (appendfsync {value})"
    return "" if value == "noeviction" else f"it may evict tasks (maxmemory-policy {value})"


def _info(reply: bytes) -> dict[str, str]:
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
