"""The broker's server is killed under a working worker and comes back (contract D22)."""

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from conveyor.brokers.base import Broker
from conveyor.brokers.url import connect
from conveyor.core.task import State
from tests.servers import PostgresServer, ServerMissing, ValkeyServer
from tests.servers.base import Server
from tests.worker.harness import enqueue, eventually, reached, running, started

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture(
    params=[
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("redis", marks=pytest.mark.redis),
    ]
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own that keeps what it has stored."""
    try:
        made: Server = (
            PostgresServer(fsync=True)
            if request.param == "postgres"
            else ValkeyServer(aof="always")
        )
    except ServerMissing as missing:
        pytest.skip(f"MISSING SERVER: {missing}")
    with made:
        yield made


@pytest.fixture
async def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setenv("CONVEYOR_URL", server.url)
    broker = connect(server.url)
    await broker.migrate()
    await broker.open()
    yield broker
    await broker.close()


async def test_a_worker_goes_on_where_it_was(server: Server, store: Broker, tmp_path: Path) -> None:
    task = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path, lease=15.0) as worker:
        await started(tmp_path)
        server.kill()
        eventually(lambda: "trying on" in worker.text)
        server.start()
        back = time.monotonic()
        (tmp_path / "go").touch()
        await reached(store, task, State.SUCCEEDED)
        another = await enqueue(store, "echo", 1)
        await reached(store, another, State.SUCCEEDED)
        assert time.monotonic() - back < 10
        eventually(lambda: "the broker is back" in worker.text)
        info = await store.inspector.get(task.id)
        assert [e.outcome for e in info.executions] == ["succeeded"]
        assert worker.text.count("ready") == 1


async def test_an_outage_beyond_the_lease_stops_what_runs_and_starts_it_again(
    server: Server, store: Broker, tmp_path: Path
) -> None:
    task = await enqueue(store, "wait_forever", str(tmp_path))
    with running(tmp_path, lease=4.0) as worker:
        await started(tmp_path)
        server.kill()
        # It stops its task before anyone else may run it.
        eventually((tmp_path / "cancelled").exists)
        server.start()
        await started(tmp_path, 2, within=25)
        info = await store.inspector.get(task.id)
        assert info.attempts == 0
        assert info.execution >= 2
        assert worker.process.poll() is None
