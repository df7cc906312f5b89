"""The whole conformance suite on a cluster: all keys of a queue in one slot, queues anywhere."""

import secrets
from collections.abc import Iterator

import pytest

from conveyor.brokers.url import connect
from conveyor.testing.conformance import Capabilities, install
from conveyor.testing.conformance.rig import ConnectBroker
from tests.servers import ValkeyCluster

pytestmark = [pytest.mark.chaos, pytest.mark.redis, pytest.mark.unmeasured]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as servers:
        yield servers


@pytest.fixture
def cluster_url(cluster: ValkeyCluster) -> Iterator[str]:
    hosts = ",".join(f"{host}:{port}" for host, port in cluster.addresses)
    yield f"redis+cluster://{hosts}?namespace=t{secrets.token_hex(4)}&timeout=10"
    for node in cluster.nodes:
        with node.client() as client:
            client.flushall()


@pytest.fixture
def connect_broker(cluster_url: str) -> ConnectBroker:
    return lambda clock: connect(cluster_url, clock=clock)


@pytest.fixture
def capabilities() -> Capabilities:
    return Capabilities(limits_span_queues=False)


install(globals())
