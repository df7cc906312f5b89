"""Schedules on every store, under a clock that the test moves."""

from collections.abc import AsyncIterator

import pytest

from conveyor.brokers.base import Broker
from conveyor.brokers.url import connect
from conveyor.testing.clock import ManualClock
from tests.schedules.rig import Rig
from tests.stores import EACH_MEASURED_ONCE, postgres_template

__all__ = ["postgres_template"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=EACH_MEASURED_ONCE)
def broker_url(request: pytest.FixtureRequest) -> str:
    """A fresh store of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def broker(broker_url: str, clock: ManualClock) -> AsyncIterator[Broker]:
    broker = connect(broker_url, clock=clock)
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
def rig(broker: Broker, clock: ManualClock) -> Rig:
    return Rig(broker, clock)
