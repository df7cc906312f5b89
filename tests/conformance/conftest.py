"""A fresh, migrated store of each kind for every conformance test."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from conveyor.brokers.url import connect
from conveyor.testing.conformance import Capabilities
from conveyor.testing.conformance.rig import ConnectBroker
from tests.servers import PostgresServer, ValkeyServer
from tests.stores import postgres_template

__all__ = ["postgres_template"]

FreshStore = Callable[[], AbstractContextManager[str]]
"""Makes an empty, migrated store and removes it; yields its URL."""


@pytest.fixture
def capabilities() -> Capabilities:
    return Capabilities()


@pytest.fixture
def connect_broker(broker_url: str) -> ConnectBroker:
    return lambda clock: connect(broker_url, clock=clock)


@pytest.fixture
def fresh_sqlite(tmp_path: Path) -> FreshStore:
    numbers = iter(range(1_000_000))

    @contextmanager
    def fresh() -> Iterator[str]:
        yield f"sqlite:///{(tmp_path / f'{next(numbers)}.db').as_posix()}"

    return fresh


@pytest.fixture
def fresh_postgres(postgres: PostgresServer, postgres_template: str) -> FreshStore:
    @contextmanager
    def fresh() -> Iterator[str]:
        url = postgres.create_database(template=postgres_template)
        yield url
        postgres.drop_database(url)

    return fresh


@pytest.fixture
def fresh_redis(valkey: ValkeyServer) -> FreshStore:
    @contextmanager
    def fresh() -> Iterator[str]:
        yield f"{valkey.url}?namespace=machine"
        with valkey.client() as client:
            client.flushall()

    return fresh
