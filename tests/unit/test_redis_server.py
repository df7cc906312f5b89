"""Turns at one Redis server: what is our own doing is not blamed on the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from conveyor.brokers.redis.faults import Unanswered
from conveyor.brokers.redis.server import CONNECTIONS, Command, Server
from conveyor.brokers.redis.wire import Wire
from conveyor.core.errors import BrokerUnavailable

PING = [Command(b"", ("PING",))]


class Line:
    """A connection to a server that takes its time."""

    def __init__(self, takes: float) -> None:
        self.takes = takes

    async def send(self, packed: Sequence[bytes]) -> None:
        pass

    async def reply(self) -> bytes:
        await asyncio.sleep(self.takes)
        return b"PONG"

    def is_usable(self) -> bool:
        return True

    def drop(self) -> None:
        pass


class Dialled:
    """A server, and how often somebody called."""

    def __init__(self, takes: float, timeout: float) -> None:
        self.calls = 0
        self._takes = takes
        self.server = Server(self._dial, "here:1", timeout)

    async def _dial(self) -> Wire:
        self.calls += 1
        return cast("Wire", Line(self._takes))

    async def ask(self, times: int) -> list[Any]:
        asked = (self.server.run(PING) for _ in range(times))
        return list(await asyncio.gather(*asked, return_exceptions=True))


async def test_who_waits_for_a_turn_waits_while_others_are_answered() -> None:
    answering = Dialled(takes=0.05, timeout=0.3)
    assert await answering.ask(15 * CONNECTIONS) == [[b"PONG"]] * 15 * CONNECTIONS
    assert answering.calls == CONNECTIONS


async def test_of_a_server_that_answers_nobody_all_hear_at_once() -> None:
    silent = Dialled(takes=3_600, timeout=0.1)
    failures = await silent.ask(500)
    assert silent.calls == CONNECTIONS  # the others never had a turn
    assert [type(one) for one in failures[:CONNECTIONS]] == [Unanswered] * CONNECTIONS
    assert [type(one) for one in failures[CONNECTIONS:]] == [BrokerUnavailable] * 468
    assert {str(one) for one in failures} == {"Redis at here:1 did not answer in time"}
    assert len(await silent.ask(CONNECTIONS)) == CONNECTIONS  # their turns came back
    assert silent.calls == 2 * CONNECTIONS


async def test_a_reply_that_came_while_the_process_was_busy_counts() -> None:
    answering = Dialled(takes=0.01, timeout=0.05)
    asking = asyncio.create_task(answering.server.run(PING))
    await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - as somebody's code does that computes
    assert await asking == [b"PONG"]


async def test_connecting_has_an_end_too() -> None:
    async def dial() -> Wire:
        await asyncio.sleep(3_600)
        raise AssertionError

    with pytest.raises(BrokerUnavailable, match="did not answer in time") as caught:
        await Server(dial, "here:1", 0.05).run(PING)
    assert type(caught.value) is BrokerUnavailable


async def test_who_leaves_the_line_takes_no_turn_along() -> None:
    answering = Dialled(takes=0.01, timeout=5)
    asked = [asyncio.create_task(answering.server.run(PING)) for _ in range(3 * CONNECTIONS)]
    await asyncio.sleep(0)
    for one in asked[CONNECTIONS : 2 * CONNECTIONS]:
        one.cancel()
    await asyncio.gather(*asked[:CONNECTIONS])
    for one in asked[2 * CONNECTIONS :]:  # some of them have been given a turn just now
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert answering.server._turns._free == CONNECTIONS
