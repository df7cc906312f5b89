"""Sentinels: the primary is asked for, and asked for again after a failover."""

import asyncio
from collections.abc import Iterator

import pytest

from conveyor.brokers.url import connect
from conveyor.core.errors import BrokerUnavailable
from conveyor.core.task import Lease, NewTask, State
from conveyor.testing.conformance.rig import Rig, ok
from tests.chaos.rigs import rig_on, until
from tests.servers import SentinelSet

pytestmark = [pytest.mark.chaos, pytest.mark.redis]


@pytest.fixture
def sentinels() -> Iterator[SentinelSet]:
    with SentinelSet() as servers:
        yield servers


async def replicated(servers: SentinelSet) -> None:
    """Wait until the replica has everything."""
    with servers.primary.client() as client:
        await until(lambda: asyncio.to_thread(lambda: bool(client.wait(1, 1_000))))


async def test_a_failover_is_followed(sentinels: SentinelSet) -> None:
    """C5: what was replicated is there, the lease goes on, the bells ring again."""
    async with rig_on(sentinels.url) as rig:
        other = await rig.another()
        waiting = await rig.pushed(key="k")
        rung = asyncio.Event()
        await rig.worker(seconds=600)
        running = await rig.pushed(queue="r")
        lease = await rig.lease(queues=["r"])
        await replicated(sentinels)
        async with rig.broker.listen("w", ["empty"], rung.set):
            sentinels.primary.kill()
            with pytest.raises(BrokerUnavailable):
                await rig.push(rig.task())
            await asyncio.to_thread(sentinels.wait_for_failover)
            await until(lambda: _is(rig, waiting.id, State.QUEUED))
            await until(lambda: _settled(rig, lease))
            assert await rig.state(running) is State.SUCCEEDED
            await rig.step(queues=["empty"])
            await until(lambda: _joined(rig))
            rung.clear()
            await other.push([NewTask(rig.task(queue="empty"))])
            await asyncio.wait_for(rung.wait(), 2)
        assert await rig.is_healthy()


async def test_a_demoted_primary_is_left(sentinels: SentinelSet) -> None:
    """A planned failover kills nobody: the old primary answers READONLY."""
    async with rig_on(sentinels.url) as rig:
        await rig.pushed()
        await replicated(sentinels)
        with sentinels.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", sentinels.service)
        await asyncio.to_thread(sentinels.wait_for_failover)
        await until(lambda: _pushes(rig))
        assert (await rig.counts())[State.QUEUED] == 2


async def test_an_unknown_service_is_said(sentinels: SentinelSet) -> None:
    broker = connect(sentinels.url.replace(sentinels.service, "nobody"))
    with pytest.raises(BrokerUnavailable, match="nobody"):
        await broker.open()
    await broker.close()


async def test_dead_sentinels_beside_a_living_one_do_not_matter(sentinels: SentinelSet) -> None:
    sentinels.sentinels[0].stop()
    async with rig_on(sentinels.url) as rig:
        await rig.pushed()


async def _is(rig: Rig, task_id: str, state: State) -> bool:
    return (await rig.broker.inspector.get(task_id)).state is state


async def _settled(rig: Rig, lease: Lease) -> bool:
    return await rig.settle(lease, ok())


async def _joined(rig: Rig) -> bool:
    return not (await rig.step(queues=["empty"])).leases


async def _pushes(rig: Rig) -> bool:
    await rig.pushed()
    return True
