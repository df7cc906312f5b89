"""What becomes of calls when PostgreSQL or the way to it fails (D22), and of its schema."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from conveyor.brokers.base import Broker, Pushed
from conveyor.brokers.url import connect
from conveyor.core.errors import BrokerUnavailable, EnqueueUnknown, SchemaMismatch
from conveyor.core.task import NewTask, State
from conveyor.testing.conformance.rig import Capabilities, Rig, ok
from tests.chaos.rigs import rig_on
from tests.faults import Act, FaultProxy
from tests.faults.rules import Command, Phase
from tests.servers import PostgresServer

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]
IN_TIME = 2.5
"""D22: two seconds, and a little for a busy machine."""


async def migrated(url: str) -> str:
    broker = connect(url)
    await broker.migrate()
    await broker.close()
    return url


@pytest.fixture
def empty_url(postgres: PostgresServer) -> Iterator[str]:
    """A database nobody has migrated."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[FaultProxy]:
    with FaultProxy.before(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def rig(postgres_url: str) -> AsyncIterator[Rig]:
    """A rig that goes straight to the server."""
    await migrated(postgres_url)
    async with rig_on(postgres_url) as rig:
        yield rig


@pytest.fixture
async def far(rig: Rig, proxy: FaultProxy) -> AsyncIterator[Rig]:
    """A rig whose every byte goes through the proxy, with the hot verbs warmed up."""
    async with rig_on(f"{proxy.url}?timeout=1") as far:
        await far.push(far.task(queue="warm"))
        proxy.restart_numbers()
        yield far


def losing_replies(of: str) -> Callable[[Command, Phase], Act | None]:
    """Let the server carry out what mentions `of`, and reset the connection before the reply."""

    def hook(command: Command, phase: Phase) -> Act | None:
        hit = phase == "after" and command.name == "Execute" and of in command.sql
        return Act.RESET if hit else None

    return hook


async def test_a_push_whose_reply_is_lost_is_stored_once(
    rig: Rig, far: Rig, proxy: FaultProxy
) -> None:
    lost = proxy.drop_reply(1)
    task = far.task(key="k")
    assert await far.push(task) == [Pushed(task.id)]
    assert lost.fired.is_set()
    assert await rig.counts() == {State.QUEUED: 2}


async def test_a_push_whose_replies_are_all_lost_is_unknown(
    rig: Rig, far: Rig, proxy: FaultProxy
) -> None:
    proxy.on_command = losing_replies("push(")
    task = far.task()
    with pytest.raises(EnqueueUnknown) as caught:
        await far.push(task)
    assert caught.value.ids == (task.id,)
    proxy.on_command = None
    assert await far.push(task) == [Pushed(task.id)]
    assert await rig.counts() == {State.QUEUED: 2}


async def test_a_push_that_was_never_sent_says_so(far: Rig, proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.reset()
    began = time.monotonic()
    with pytest.raises((BrokerUnavailable, EnqueueUnknown)):
        await far.push(far.task())
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{proxy.port}"):
        await far.push(far.task())
    assert time.monotonic() - began < 2 * IN_TIME
    proxy.heal()
    await far.pushed()


async def test_a_silent_server_is_given_up_in_time(far: Rig, proxy: FaultProxy) -> None:
    proxy.half_open()
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="no answer within 1 s"):
        await far.step()
    assert time.monotonic() - began < IN_TIME
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="no answer within 2 s"):
        await far.step()
    assert time.monotonic() - began < IN_TIME + 1
    proxy.heal()
    await far.step()


async def test_a_step_whose_reply_is_lost_happened_once(
    rig: Rig, far: Rig, proxy: FaultProxy
) -> None:
    task = await far.pushed()
    lease = await far.lease()
    proxy.on_command = losing_replies("step(")
    with pytest.raises(BrokerUnavailable):
        await far.settle(lease, ok("kept"))
    proxy.on_command = None
    assert await rig.state(task) is State.SUCCEEDED
    assert not await far.settle(lease, ok("kept"))
    assert await rig.is_healthy()


async def test_bells_ring_again_after_an_outage(rig: Rig, far: Rig, proxy: FaultProxy) -> None:
    rung = asyncio.Event()
    async with far.broker.listen("w", ["q"], rung.set):
        proxy.reset()
        async with asyncio.timeout(10):
            await rung.wait()  # it rings by itself: bells may have been missed
        rung.clear()
        await rig.pushed()
        async with asyncio.timeout(10):
            await rung.wait()


async def test_a_killed_server_loses_nothing_that_was_confirmed() -> None:
    with PostgresServer() as server:
        url = await migrated(server.create_database())
        async with rig_on(url) as rig:
            running, waiting = await rig.pushed(), await rig.pushed()
            lease = await rig.lease()
            server.kill()
            with pytest.raises(BrokerUnavailable):
                await rig.step()
            with pytest.raises(BrokerUnavailable):
                await rig.info(running)
            server.start()
            assert await rig.settle(lease, ok("kept"))
            assert await rig.state(running) is State.SUCCEEDED
            assert await rig.state(waiting) is State.QUEUED
            assert await rig.is_healthy()


async def test_a_database_without_a_schema_says_what_to_do(empty_url: str) -> None:
    broker = connect(empty_url)
    with pytest.raises(SchemaMismatch, match="has no Conveyor schema: run `conveyor migrate --url"):
        await broker.open()


@pytest.mark.parametrize(("version", "says"), [(0, "no Conveyor schema"), (99, "newer than")])
async def test_another_version_of_the_schema_is_not_touched(
    rig: Rig, postgres: PostgresServer, postgres_url: str, version: int, says: str
) -> None:
    postgres.execute(f"UPDATE conveyor.meta SET version = {version}", url=postgres_url)
    broker = connect(postgres_url)
    with pytest.raises(SchemaMismatch, match=says):
        await broker.open()
    if version:
        with pytest.raises(SchemaMismatch, match="upgrade Conveyor"):
            await broker.migrate()
        await broker.close()


async def test_migrations_in_parallel_are_one(empty_url: str) -> None:
    brokers = [connect(empty_url) for _ in range(8)]
    try:
        changes = await asyncio.gather(*(broker.migrate() for broker in brokers))
        assert sum(bool(lines) for lines in changes) == 1
        await asyncio.gather(*(broker.open() for broker in brokers))
    finally:
        for broker in brokers:
            await broker.close()


async def test_namespaces_do_not_meet(postgres_url: str) -> None:
    one = connect(await migrated(f"{postgres_url}?namespace=one"))
    two = connect(await migrated(f"{postgres_url}?namespace=two"))
    try:
        rung = asyncio.Event()
        async with two.listen("w", ["q"], rung.set):
            task = await pushed_to(one)
            assert await two.push([task]) == [Pushed(task.task.id)]
            async with asyncio.timeout(5):
                await rung.wait()
        assert await one.inspector.counts() == await two.inspector.counts()
        assert (await one.inspector.counts())[State.QUEUED] == 1
        await one.cancel([task.task.id])
        assert (await two.inspector.counts())[State.QUEUED] == 1
    finally:
        await one.close()
        await two.close()


async def pushed_to(broker: Broker) -> NewTask:
    task = NewTask(Rig(lambda _: broker, Capabilities()).task())
    await broker.push([task])
    return task


async def test_too_many_connections_is_an_outage() -> None:
    with PostgresServer(max_connections=5, settings={"superuser_reserved_connections": "1"}) as one:
        url = await migrated(one.create_database())
        brokers = [connect(url) for _ in range(6)]
        try:
            with pytest.raises(BrokerUnavailable, match=r"too many|remaining connection slots"):
                await asyncio.gather(*(broker.open() for broker in brokers))
        finally:
            for broker in brokers:
                await broker.close()
