"""What the tests of the Redis store share."""

from collections.abc import AsyncIterator

import pytest

from conveyor.brokers.url import connect
from conveyor.testing.conformance.rig import Capabilities, Rig


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    rig = Rig(lambda clock: connect(redis_url, clock=clock), Capabilities())
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()
