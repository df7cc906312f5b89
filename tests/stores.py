"""Fresh stores whose schema is there: what every test above the brokers starts from."""

import pytest

from conveyor.brokers.url import connect
from tests.servers import PostgresServer
from tests.servers.postgres import run_in_own_loop

MIGRATED = "conveyor_migrated"


def migrate(url: str) -> None:
    """Bring the store of this URL to the current schema."""

    async def run() -> None:
        broker = connect(url)
        try:
            await broker.migrate()
        finally:
            await broker.close()

    run_in_own_loop(run())


EACH_MEASURED_ONCE = [
    pytest.param("sqlite", marks=pytest.mark.sqlite),
    pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.unmeasured]),
    pytest.param("redis", marks=[pytest.mark.redis, pytest.mark.unmeasured]),
]
"""Stores for a folder whose tests run the same lines on each."""


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """A migrated database: cloning it is ten times faster than migrating anew.

    A folder's conftest.py imports this fixture to get it.
    """
    return postgres.template(MIGRATED, migrate)
