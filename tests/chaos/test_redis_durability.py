"""What the server keeps decides what may be promised (D24)."""

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest

from conveyor.brokers.base import Pushed
from conveyor.brokers.redis.broker import RedisBroker
from conveyor.core.errors import BrokerError, DurabilityUnmet, EnqueueUnknown
from conveyor.core.task import NewTask, State
from tests.chaos.rigs import rig_on, until
from tests.faults import FaultProxy
from tests.servers import Aof, ValkeyServer
from tests.servers.base import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.redis]


@pytest.fixture(scope="module")
def always() -> Iterator[ValkeyServer]:
    with ValkeyServer(aof="always") as server:
        yield server


@pytest.fixture
def pair() -> Iterator[tuple[ValkeyServer, ValkeyServer]]:
    """A primary that syncs always, and its replica."""
    with ValkeyServer(aof="always") as primary:
        settings = {"replicaof": f"127.0.0.1 {primary.port}", "repl-diskless-sync-delay": "0"}
        with ValkeyServer(aof="always", settings=settings) as replica:
            with replica.client() as client:

                def follows() -> bool:
                    return bool(client.info("replication")["master_link_status"] == "up")

                assert wait_for(follows, 15)
            yield primary, replica


async def mode_of(url: str) -> str:
    broker = RedisBroker(url)
    try:
        await broker.open()
        return broker.durability
    finally:
        await broker.close()


async def test_without_a_word_the_server_decides(
    always: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "conveyor"):
        assert await mode_of(always.url) == "fsync"
    assert not caplog.records
    assert await mode_of(f"{always.url}?durability=fast") == "fast"
    assert await mode_of(f"{always.url}?durability=fsync") == "fsync"


@pytest.mark.parametrize(
    ("aof", "settings", "reason"),
    [
        ("everysec", {}, "appendfsync everysec"),
        ("none", {}, "appendonly no"),
        ("always", {"maxmemory-policy": "allkeys-lru"}, "maxmemory-policy allkeys-lru"),
        ("always", {"rename-command": 'CONFIG ""'}, "CONFIG GET is not allowed"),
    ],
)
async def test_a_server_that_keeps_less_is_fast_with_a_warning(
    aof: Aof, settings: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer(aof=aof, settings=settings) as server:
        with caplog.at_level(logging.WARNING, "conveyor"):
            assert await mode_of(server.url) == "fast"
            assert await mode_of(server.url) == "fast"
        (record,) = caplog.records
        assert reason in record.getMessage()
        caplog.clear()
        assert await mode_of(f"{server.url}?durability=fast") == "fast"
        assert not caplog.records
        for mode in ("fsync", "replicated"):
            with pytest.raises(DurabilityUnmet, match=f"durability={mode}") as caught:
                await mode_of(f"{server.url}?durability={mode}")
            assert reason in str(caught.value)


async def test_replicated_needs_a_replica(always: ValkeyServer) -> None:
    with pytest.raises(DurabilityUnmet, match="no replica"):
        await mode_of(f"{always.url}?durability=replicated")


@pytest.mark.slow
async def test_replicated_waits_once_per_flush(pair: tuple[ValkeyServer, ValkeyServer]) -> None:
    primary, replica = pair
    with FaultProxy.before(primary.url) as proxy:
        async with rig_on(f"{proxy.url}?durability=replicated") as rig:
            await rig.pushed()
            proxy.restart_numbers()
            await rig.push(*(rig.task() for _ in range(100)))
            assert proxy.counts["WAITAOF"] + proxy.counts["WAIT"] == 1
            assert proxy.counts["EVALSHA"] == 1
            await rig.push(*(rig.task(queue=f"q{number}") for number in range(5)))
            assert proxy.counts["WAITAOF"] + proxy.counts["WAIT"] == 2
    primary.kill()
    with replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    async with rig_on(replica.url) as rig:
        assert await rig.counts() == {State.QUEUED: 106}
        assert await rig.is_healthy()


@pytest.mark.slow
async def test_a_replica_that_does_not_confirm_leaves_it_unknown(
    pair: tuple[ValkeyServer, ValkeyServer],
) -> None:
    primary, replica = pair
    async with rig_on(f"{primary.url}?durability=replicated&timeout=0.5") as rig:
        await rig.pushed()
        replica.pause()
        task = rig.task()
        begin = time.monotonic()
        with pytest.raises(EnqueueUnknown) as caught:
            await rig.push(task)
        assert caught.value.ids == (task.id,)
        assert time.monotonic() - begin < 5
        # A connection that has written nothing would be confirmed at once.
        other = await rig.another()
        with pytest.raises(EnqueueUnknown):
            await other.push([NewTask(task)])
        replica.resume()

        async def confirmed() -> bool:
            try:
                return await rig.push(task) == [Pushed(task.id)]
            except EnqueueUnknown:
                return False

        await until(confirmed)
        assert await rig.counts() == {State.QUEUED: 2}


async def test_always_means_always() -> None:
    """Nothing that was acknowledged is missing after SIGKILL, from twenty producers at once."""
    acknowledged: list[str] = []
    killed = asyncio.Event()
    with ValkeyServer(aof="always") as server:
        async with rig_on(f"{server.url}?timeout=1") as rig:

            async def produce() -> None:
                while not killed.is_set():
                    task = rig.task()
                    try:
                        await rig.push(task)
                    except BrokerError:
                        assert killed.is_set()
                    else:
                        acknowledged.append(task.id)

            producers = [asyncio.create_task(produce()) for _ in range(20)]
            await until(lambda: _reached(acknowledged, 400))
            killed.set()
            server.kill()
            await asyncio.gather(*producers)
            server.start()
            kept = await rig.broker.cancel(acknowledged)
    assert kept.keys() == set(acknowledged)


async def _reached(acknowledged: list[str], number: int) -> bool:
    return len(acknowledged) >= number
