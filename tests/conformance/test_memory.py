"""The conformance suite on SQLite in memory, a store that belongs to one broker."""

import pytest

from conveyor.brokers.url import connect
from conveyor.testing.conformance import Capabilities, install
from conveyor.testing.conformance.rig import ConnectBroker


@pytest.fixture
def connect_broker() -> ConnectBroker:
    return lambda clock: connect("sqlite://", clock=clock)


@pytest.fixture
def capabilities() -> Capabilities:
    return Capabilities(shared=False)


install(globals())
