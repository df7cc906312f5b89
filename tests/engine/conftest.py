"""An open app on a fresh store of each kind."""

from collections.abc import AsyncIterator

import pytest

from conveyor import Conveyor
from tests.running import AT_ONCE
from tests.stores import EACH_MEASURED_ONCE, postgres_template

__all__ = ["postgres_template"]


@pytest.fixture(params=EACH_MEASURED_ONCE)
def broker_url(request: pytest.FixtureRequest) -> str:
    """A fresh store of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def app(broker_url: str) -> AsyncIterator[Conveyor]:
    """Its tasks get three attempts without a wait."""
    async with Conveyor(broker_url, retry=AT_ONCE) as app:
        yield app
