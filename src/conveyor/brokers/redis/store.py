"""What every verb needs: the link, the names of the keys, the time, and where ids live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from conveyor.brokers.redis.address import Address
from conveyor.brokers.redis.faults import Unanswered, translate
from conveyor.brokers.redis.link import Link, make_link
from conveyor.brokers.redis.records import encode, pack_known
from conveyor.brokers.redis.server import Command, run_script
from conveyor.brokers.redis.wire import Argument
from conveyor.core.clock import Clock

T = TypeVar("T")
_MOST_HOMES = 50_000
_CHUNK = 500
_BELIEVED = 60.0
_AT_ONCE = 0.2
"""Seconds within which a question that got no answer is asked again."""


class Store:
    """One store in use. All keys of a queue begin with `{namespace:queue}`, those of the namespace
    with `{namespace}`: the braces make each a slot of its own in a cluster.
    """

    def __init__(self, address: Address, clock: Clock | None) -> None:
        self.address = address
        self.link: Link = make_link(address)
        self.clock = clock
        self.top = f"{{{address.namespace}}}".encode()
        self._registered: dict[str, float] = {}
        """Queues known to be in the registry, and since when."""
        self._roots: dict[str, bytes] = {}
        self._homes: dict[str, str] = {}

    def root(self, queue: str) -> bytes:
        """Return what the keys of a queue begin with."""
        root = self._roots.get(queue)
        if root is None:
            root = self._roots[queue] = f"{{{self.address.namespace}:{queue}}}".encode()
        return root

    def shared(self, root: bytes) -> bytes:
        """Return what the keys of gates begin with for the queue with this root. A script in a
        cluster may touch one slot only: there each queue has gates of its own.
        """
        return (root if self.link.spread else self.top) + b":"

    @property
    def now(self) -> Argument:
        """The time for a script, in ms: '' is the server's own."""
        return "" if self.clock is None else round(self.clock.time() * 1000)

    def on_queue(self, name: str, queue: str, *args: Argument) -> Command:
        """Return the command that runs a script on a queue."""
        root = self.root(queue)
        return run_script(name, root, self.shared(root), self.now, *args)

    def on_top(self, name: str, *args: Argument) -> Command:
        """Return the command that runs a script on the keys of the namespace."""
        return run_script(name, self.top, self.top + b":", self.now, *args)

    def plain(self, verb: str, root: bytes, key: str, *args: Argument) -> Command:
        """Return a command of Redis on one key below a root."""
        return Command(root, (verb, root + key.encode(), *args))

    async def ask(self, *commands: Command, atomic: bool = False) -> list[Any]:
        """Run commands in one go; `atomic`: as one transaction, unless that takes several servers.
        Raises the first error there is among the replies.
        """
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            together = atomic and len(commands) > 1 and not self.link.spread
            return self.checked(await self.link.run(commands, atomic=together))
        except Unanswered:
            # A connection that broke meanwhile need not be anybody's problem.
            if loop.time() - begun > _AT_ONCE or not all(c.changes_nothing for c in commands):
                raise
        return self.checked(await self.link.run(commands))

    async def ask_one(self, command: Command) -> Any:
        """Run one command."""
        (reply,) = await self.ask(command)
        return reply

    def checked(self, replies: list[Any]) -> list[Any]:
        """Return replies without an error among them. Raises `BrokerError`."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise translate(reply, self.link.where) from reply
        return replies

    async def time_ms(self) -> float:
        """Return the time that leases and due times go by, in ms."""
        if self.clock is not None:
            return self.clock.time() * 1000
        seconds, micros = (await self.link.everywhere("TIME"))[0]
        return int(seconds) * 1000 + int(micros) / 1000

    async def queue_names(self) -> list[str]:
        """Return the names of all queues in the order of their first use."""
        found = await self.ask_one(self.plain("ZRANGE", self.top, ":queues", 0, -1))
        return [name.decode() for name in found]

    def is_registered(self, queue: str) -> bool:
        """Whether a queue is known to be in the registry. Believed for a minute only: in a cluster
        the registry's node may fail over without its last moments.
        """
        since = self._registered.get(queue)
        return since is not None and asyncio.get_running_loop().time() - since < _BELIEVED

    async def register(self, queues: Sequence[str]) -> None:
        """Put queues in the registry."""
        await self.ask_one(self.on_top("register", encode(list(queues))))
        now = asyncio.get_running_loop().time()
        self._registered.update(dict.fromkeys(queues, now))

    def remember(self, ids: Iterable[str], queue: str) -> None:
        """Remember for a while where these ids live: the one who pushed them asks for them."""
        if len(self._homes) > _MOST_HOMES:
            self._homes.clear()
        self._homes.update(dict.fromkeys(ids, queue))

    async def find(
        self, name: str, ids: Sequence[str], read: Callable[[Any], dict[int, T]], *args: Argument
    ) -> dict[str, tuple[str, T]]:
        """Run a script that takes ids wherever these live. Returns for each id that was found its
        queue and what `read` made of the reply, which tells by places from 1.
        """
        found: dict[str, tuple[str, T]] = {}
        known = list(pack_known(ids).items())
        for start in range(0, len(known), _CHUNK):
            chunk = dict(known[start : start + _CHUNK])
            found |= await self._find_at_home(name, chunk, read, args)
            rest = {key: text for key, text in chunk.items() if text not in found}
            if rest:
                every = dict.fromkeys(await self.queue_names(), rest)
                found |= await self._find_in(name, every, read, args)
        return found

    async def _find_at_home(
        self,
        name: str,
        ids: dict[bytes, str],
        read: Callable[[Any], dict[int, T]],
        args: tuple[Argument, ...],
    ) -> dict[str, tuple[str, T]]:
        homes: dict[str, dict[bytes, str]] = {}
        for key, text in ids.items():
            if text in self._homes:
                homes.setdefault(self._homes[text], {})[key] = text
        return await self._find_in(name, homes, read, args)

    async def _find_in(
        self,
        name: str,
        queues: dict[str, dict[bytes, str]],
        read: Callable[[Any], dict[int, T]],
        args: tuple[Argument, ...],
    ) -> dict[str, tuple[str, T]]:
        commands = [
            self.on_queue(name, queue, b"".join(ids), *args) for queue, ids in queues.items()
        ]
        found: dict[str, tuple[str, T]] = {}
        replies = await self.ask(*commands, atomic=True)
        for (queue, ids), reply in zip(queues.items(), replies, strict=True):
            texts = list(ids.values())
            for place, value in read(reply).items():
                found[texts[place - 1]] = queue, value
        return found


def pairs(flat: list[Any]) -> dict[Any, Any]:
    """Return `{a: b, c: d}` for `[a, b, c, d]`, as scripts answer."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def places(flat: list[int]) -> dict[int, bool]:
    """Return the places a script named."""
    return dict.fromkeys(flat, True)
