"""Brokers on real servers for the chaos tests, on the servers' own clocks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from conveyor.brokers.url import connect
from conveyor.core.errors import BrokerError
from conveyor.testing.conformance.rig import Capabilities, Rig


@asynccontextmanager
async def rig_on(url: str) -> AsyncIterator[Rig]:
    """Open a broker on `url`; the conformance suite's short words for its verbs."""
    rig = Rig(lambda _: connect(url), Capabilities())
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    """Ask again and again, through errors of the broker, until the answer is yes."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while loop.time() < deadline:
        try:
            if await condition():
                return
        except BrokerError:
            pass
        await asyncio.sleep(0.02)
    pytest.fail(f"did not happen within {seconds:g} s")
