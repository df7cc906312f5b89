"""Conversations with one server: connections that are lent out, and commands sent in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from conveyor.brokers.redis.faults import FAULTS, Unanswered, is_demoted, translate
from conveyor.brokers.redis.scripts import Script, script
from conveyor.brokers.redis.turns import Turns
from conveyor.brokers.redis.wire import Argument, Wire, code_of, pack
from conveyor.core.errors import BrokerUnavailable

CONNECTIONS = 32
"""At most so many conversations at a time with one server; more wait their turn."""
_BYTES_PER_SECOND = 10_000_000
"""What is sent gets so much more time: a thousand tasks of 256 KB may take more than 2 s."""
_MOMENT = 0.1
"""Seconds."""
_READERS = frozenset(
    {
        "counts",
        "documents",
        "finals",
        "finished",
        "holdings",
        "look",
        "scan",
        "standing",
        "weigh",
    }
)


class Command(NamedTuple):
    """A command whose keys all lie in the slot of `root`; with a script, `args` are its ARGV."""

    root: bytes
    args: tuple[Argument, ...]
    script: Script | None = None
    shared: bytes = b""
    """What the keys of gates begin with; only with a script."""

    @property
    def changes_nothing(self) -> bool:
        """Whether it may be sent again without a thought."""
        return self.script is None or self.script.name in _READERS


def run_script(name: str, root: bytes, shared: bytes, *args: Argument) -> Command:
    """Return the command that runs `lua/<name>.lua` on the keys under `root`, with the gates under
    `shared`.
    """
    return Command(root, args, script(name), shared)


class Server:
    """The connections to one server. `dial` returns a new one, connected; `where` names the server
    in messages; `timeout` (seconds) bounds connecting, and every conversation from when it begins.
    Who waits for a turn waits as long as the server answers others within that time.
    """

    def __init__(self, dial: Callable[[], Awaitable[Wire]], where: str, timeout: float) -> None:
        self.where = where
        self._dial = dial
        self._timeout = timeout
        self._idle: list[Wire] = []
        self._turns = Turns(CONNECTIONS)
        self._heard_at = float("-inf")
        self._closed = False

    async def run(
        self,
        commands: Sequence[Command],
        *,
        atomic: bool = False,
        wait: tuple[Argument, ...] | None = None,
        asking: bool = False,
    ) -> list[Any]:
        """Send the commands in one go and return their replies; a command's own error is among
        them, as an exception. `atomic`: as one transaction. `wait`: a WAIT to follow them, whose
        numbers must be reached. Raises `Unanswered` when the connection broke after something was
        sent, `BrokerUnavailable` when before.
        """
        manner = _Manner(atomic, asking, wait)
        await self._turns.take()
        sent = False
        try:
            connection = await self._take()
            sent = True
            replies = await self._talk(connection, commands, manner)
        except FAULTS as exc:
            await self._failed(exc)
            raise translate(exc, self.where, sent=sent) from exc
        finally:
            self._turns.give()
        if any(map(is_demoted, replies)):
            await self.drop()
        return replies

    async def _talk(
        self, connection: Wire, commands: Sequence[Command], manner: _Manner
    ) -> list[Any]:
        packed = _pack(commands, manner)
        patience = self._timeout + sum(map(len, packed)) / _BYTES_PER_SECOND
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                last_look = loop.call_later(patience, _look_once_more, limit)
                try:
                    replies = await _converse(connection, commands, manner, packed)
                finally:
                    last_look.cancel()
        except BaseException:
            # Replies may be on their way that the next one would take for its own.
            connection.drop()
            raise
        self._heard_at = loop.time()
        await self._give_back(connection)
        return replies

    async def _failed(self, exc: Exception) -> None:
        await self.drop()
        silent_for = asyncio.get_running_loop().time() - self._heard_at
        if isinstance(exc, TimeoutError) and silent_for >= self._timeout:
            # Else each would find out by itself, CONNECTIONS at a time.
            self._turns.send_home(lambda: translate(TimeoutError(), self.where))

    async def dial(self) -> Wire:
        """Return a connection of your own; disconnect it yourself. Raises `BrokerUnavailable`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._dial()
        except FAULTS as exc:
            raise translate(exc, self.where) from exc

    async def drop(self) -> None:
        """Close what is not lent out: the server went away or changed its role."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.drop()

    async def close(self) -> None:
        """Close every connection, those that are lent out when they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await hang_up(connection)

    async def _take(self) -> Wire:
        if self._closed:
            raise BrokerUnavailable(f"the connection to Redis at {self.where} was closed here")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.drop()
        async with asyncio.timeout(self._timeout):
            return await self._dial()

    async def _give_back(self, connection: Wire) -> None:
        if self._closed:
            await hang_up(connection)
        else:
            self._idle.append(connection)


class _Manner(NamedTuple):
    """How commands are to be sent, see `Server.run`."""

    atomic: bool = False
    asking: bool = False
    wait: tuple[Argument, ...] | None = None
    by_sha: bool = True


def _look_once_more(limit: asyncio.Timeout) -> None:
    """Let a conversation end a moment later: when this process was busy with something else, the
    reply may have come long ago and is read now."""
    limit.reschedule(asyncio.get_running_loop().time() + _MOMENT)


async def hang_up(connection: Wire) -> None:
    """Close a connection properly, within a second: the other side may be gone."""
    with suppress(*FAULTS):
        async with asyncio.timeout(1.0):
            await connection.close()


async def _converse(
    connection: Wire,
    commands: Sequence[Command],
    manner: _Manner,
    packed: list[bytes],
) -> list[Any]:
    replies = await _exchange(connection, commands, manner, packed)
    unknown = [k for k, reply in enumerate(replies) if code_of(reply) == "NOSCRIPT"]
    if unknown:
        # A restart, a failover or SCRIPT FLUSH: sending the source teaches the server again.
        again = [commands[k] for k in unknown]
        teaching = manner._replace(atomic=False, by_sha=False)
        taught = await _exchange(connection, again, teaching, _pack(again, teaching))
        for k, reply in zip(unknown, taught, strict=True):
            replies[k] = reply
    return replies


async def _exchange(
    connection: Wire,
    commands: Sequence[Command],
    manner: _Manner,
    packed: list[bytes],
) -> list[Any]:
    await connection.send(packed)
    if manner.atomic:
        for _ in range(1 + len(commands)):
            await connection.reply()
        results = await connection.reply()
        replies = results if isinstance(results, list) else [results] * len(commands)
    else:
        replies = []
        for _ in commands:
            if manner.asking:
                await connection.reply()
            replies.append(await connection.reply())
    if manner.wait is not None:
        marked, waited = await connection.reply(), await connection.reply()
        if not any(isinstance(reply, Exception) for reply in replies):
            _check_wait(marked, waited, manner.wait)
    return replies


def _pack(commands: Sequence[Command], manner: _Manner) -> list[bytes]:
    packed: list[bytes] = []
    for command in commands:
        if manner.asking:
            packed.append(pack(("ASKING",)))
        packed.append(pack(_words(command, manner.by_sha)))
    if manner.atomic:
        packed = [pack(("MULTI",)), *packed, pack(("EXEC",))]
    if manner.wait is not None:
        # WAIT is about the last write of its own connection: a push that is repeated over another
        # one writes nothing, and would be confirmed at once.
        packed.append(pack(("SET", commands[0].root + b":mark", "")))
        packed.append(pack(manner.wait))
    return packed


def _words(command: Command, by_sha: bool) -> tuple[Argument, ...]:
    script = command.script
    if script is None:
        return command.args
    # Two keys that never exist: while a cluster moves the slot key by key, it then refuses the
    # script at both nodes (TRYAGAIN), instead of running it where half of the keys are.
    keys = (2, command.root, command.shared)
    if by_sha:
        return ("EVALSHA", script.sha, *keys, *command.args)
    return ("EVAL", script.source, *keys, *command.args)


def _check_wait(marked: Any, reply: Any, wait: tuple[Argument, ...]) -> None:
    for answer in (marked, reply):
        if isinstance(answer, Exception):
            raise Unanswered(f"the write could not be confirmed: {answer}")
    # WAIT counts replicas; WAITAOF answers [fsynced here, fsynced by replicas].
    reached = reply if isinstance(reply, list) else [reply]
    asked = wait[1:3] if isinstance(reply, list) else wait[1:2]
    if any(int(got) < int(want) for got, want in zip(reached, asked, strict=True)):
        raise Unanswered("no replica of the server confirmed the write in time")
