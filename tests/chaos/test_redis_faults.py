"""What servers do to us: scripts forgotten, connections killed, memory full, data wiped (C15)."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
import redis

from conveyor.brokers.base import Filter, Pushed, Settlement, Step
from conveyor.brokers.url import connect
from conveyor.core.errors import BrokerFull, BrokerUnavailable, EnqueueUnknown
from conveyor.core.task import NewTask, State, Task
from conveyor.testing.conformance.gates_rig import ME, gated, per_second, slots
from conveyor.testing.conformance.rig import Rig, failure, ok
from tests.chaos.rigs import rig_on, until
from tests.faults import Act, FaultProxy
from tests.servers import ValkeyServer

pytestmark = [pytest.mark.chaos, pytest.mark.redis]
IN_TIME = 2.5
"""D22: two seconds, and a little for a busy machine."""


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server of its own: these tests ruin it."""
    with ValkeyServer(aof="always") as server:
        yield server


@pytest.fixture
async def rig(server: ValkeyServer) -> AsyncIterator[Rig]:
    async with rig_on(server.url) as rig:
        yield rig


@pytest.fixture
def proxy(server: ValkeyServer) -> Iterator[FaultProxy]:
    with FaultProxy.before(server.url) as proxy:
        yield proxy


async def test_forgotten_scripts_are_taught_again(rig: Rig, server: ValkeyServer) -> None:
    with server.client() as client:
        for number in range(3):
            client.script_flush()
            task = await rig.pushed(queue=f"q{number}")
            client.script_flush()
            lease = await rig.lease(queues=[f"q{number}"])
            client.script_flush()
            assert await rig.settle(lease, ok(number))
            client.script_flush()
            assert await rig.state(task) is State.SUCCEEDED


async def test_a_push_to_many_queues_survives_a_flush_of_scripts(
    rig: Rig, server: ValkeyServer
) -> None:
    with server.client() as client:
        client.script_flush()
    tasks = [rig.task(queue=f"q{number % 5}") for number in range(20)]
    assert await rig.push(*tasks) == [Pushed(task.id) for task in tasks]
    assert await rig.counts() == {State.QUEUED: 20}


async def test_killed_connections_are_replaced(rig: Rig, server: ValkeyServer) -> None:
    tasks = [await rig.pushed() for _ in range(5)]
    with server.client() as client:
        for task in tasks:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert await rig.state(task) is State.QUEUED


async def test_work_goes_on_while_connections_are_killed(rig: Rig, server: ValkeyServer) -> None:
    """Nothing is lost and nothing runs twice: what a broken step leased is found by `held`."""
    tasks = [rig.task() for _ in range(300)]
    await rig.push(*tasks)
    finished: set[str] = set()
    stop = asyncio.Event()
    dice = random.Random(1)  # one pace, in step with `until`, would let nothing through

    async def kill() -> None:
        with server.client() as client:
            while not stop.is_set():
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await asyncio.sleep(dice.uniform(0, 0.06))

    async def all_done() -> bool:
        await rig.broker.renew(["w"], 60)
        for holding in await rig.broker.held("w"):
            reply = await rig.step(rig.settlement(holding.lease, ok()), want=0)
            if not reply.refused:
                finished.add(holding.lease.task.id)
        await rig.broker.step(Step("w", ["q"], 20))
        return await rig.counts() == {State.SUCCEEDED: len(tasks)}

    killer = asyncio.create_task(kill())
    try:
        await until(all_done, 60)
    finally:
        stop.set()
        await killer
    assert await rig.is_healthy()


async def test_a_killed_bell_is_hung_up_again(rig: Rig, server: ValkeyServer) -> None:
    other = await rig.another()
    rung = asyncio.Event()
    async with rig.broker.listen("w", ["q"], rung.set):
        await rig.worker()
        await rig.step()
        with server.client() as client:

            async def waits() -> bool:
                return any(one["cmd"] == "blpop" for one in client.client_list())

            await until(waits)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.wait_for(rung.wait(), 3)
            await until(waits)
        await rig.step()
        rung.clear()
        await other.push([NewTask(rig.task())])
        await asyncio.wait_for(rung.wait(), 1)


async def test_without_memory_producers_are_told_and_workers_go_on(
    rig: Rig, server: ValkeyServer
) -> None:
    """C15, D23: settling, leasing and renewing need room, too, and get it."""
    tasks = [rig.task(max_attempts=2) for _ in range(6)]
    await rig.push(*tasks)
    first = await rig.lease()
    other = await rig.lease()
    with server.client() as client:
        client.config_set("maxmemory", 1)
        for attempt in ([rig.task()], [rig.task(key="k")], [rig.task(queue="new")]):
            with pytest.raises(BrokerFull, match="out of memory"):
                await rig.push(*attempt)
        with pytest.raises(BrokerFull):
            await rig.push(rig.task(), rig.task(queue="r"))
        assert (await rig.broker.renew(["w"], 15))["w"].alive
        assert (await rig.broker.renew(["fresh"], 15))["fresh"].alive
        assert await rig.settle(first, ok("in spite of all"))
        assert await rig.settle(other, failure(delay=0.01))
        (third,) = (await rig.step(want=1, worker="fresh")).leases
        assert await rig.settle(third, failure(final=True))
        assert await rig.step(want=0) is not None
        states = await rig.broker.cancel([tasks[4].id])
        assert states == {tasks[4].id: State.CANCELLED}
        assert await rig.broker.requeue([tasks[4].id]) == [tasks[4].id]
        await rig.broker.tidy()
        client.config_set("maxmemory", 0)
    await rig.pushed()
    counts = await rig.counts()
    assert sum(counts.values()) == 7
    assert await rig.is_healthy()


async def test_without_memory_gated_tasks_go_on(rig: Rig, server: ValkeyServer) -> None:
    gates = (slots(2), per_second(1e6, burst=1e3))
    tasks = [gated(rig, *gates, max_attempts=2) for _ in range(5)]
    await rig.push(*tasks)
    first = await rig.lease()
    with server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(BrokerFull, match="out of memory"):
            await rig.push(gated(rig, *gates))
        second = await rig.lease()
        assert await rig.settle(first, ok("in spite of all"))
        third = await rig.lease()
        assert await rig.settle(second, failure(delay=0.01))
        assert await rig.settle(third, failure(final=True))
        assert await rig.broker.cancel([tasks[4].id]) == {tasks[4].id: State.CANCELLED}
        assert await rig.broker.requeue([tasks[4].id]) == [tasks[4].id]
        assert await rig.broker.gates.reserve(gates[1]) == 0
        await rig.broker.gates.close("slots", None, None, ME)
        assert await rig.waiting_ids() == []
        await rig.broker.gates.open("slots", None)
        assert len(await rig.waiting_ids()) == 2
        await rig.broker.tidy()
        client.config_set("maxmemory", 0)
    assert await rig.is_healthy()


async def test_a_replica_takes_no_writes(rig: Rig, server: ValkeyServer) -> None:
    await rig.pushed()
    await rig.lease()
    await rig.pushed()
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(BrokerUnavailable, match="replica"):
            await rig.push(rig.task())
        with pytest.raises(BrokerUnavailable, match="replica"):
            await rig.step()
        client.execute_command("REPLICAOF", "NO", "ONE")
    await rig.pushed()
    assert await rig.counts() == {State.QUEUED: 2, State.RUNNING: 1}


async def test_somebody_elses_endless_script_is_no_ones_fault(server: ValkeyServer) -> None:
    async with rig_on(f"{server.url}?timeout=1") as rig:
        task = await rig.pushed()
        with server.client(socket_timeout=20) as busy, server.client() as client:
            client.config_set("lua-time-limit", 50)
            endless = asyncio.create_task(asyncio.to_thread(_run_for_ever, busy))
            with pytest.raises(BrokerUnavailable, match=r"busy|in time"):
                await _step_on(rig)
            await until(lambda: asyncio.to_thread(_kill_script, client))
            await endless
        assert await rig.state(task) is State.QUEUED


async def test_a_wiped_server_is_noticed_and_used_again(rig: Rig, server: ValkeyServer) -> None:
    await rig.pushed()
    lease = await rig.lease()
    with server.client() as client:
        client.flushall()
    assert not (await rig.broker.renew(["w"], 15))["w"].alive
    assert not await rig.settle(lease, ok())
    assert not (await rig.step()).leases
    assert await rig.broker.inspector.events("0000000000000002-2") == []
    task = await rig.pushed()
    assert await rig.broker.inspector.queue_names() == ["q"]
    assert await rig.state(task) is State.QUEUED
    events = await rig.broker.inspector.events("0000000000000002-2")
    assert [event.id for event in events] == [task.id]
    assert (await rig.lease(worker="new token")).task == task


async def test_a_server_that_is_down_is_said_to_be_in_time(server: ValkeyServer) -> None:
    secret = server.url.replace("redis://", "redis://ada:s3cret@")
    broker = connect(secret)
    server.stop()
    begin = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{server.port}") as caught:
        await broker.open()
    assert time.monotonic() - begin < IN_TIME
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    await broker.close()


async def test_a_wrong_password_is_said(server: ValkeyServer) -> None:
    broker = connect(server.url.replace("redis://", "redis://ada:s3cret@"))
    with pytest.raises(BrokerUnavailable, match="refused the login") as caught:
        await broker.open()
    assert "s3cret" not in str(caught.value)
    await broker.close()


async def test_a_server_that_stands_still_costs_two_seconds(rig: Rig, server: ValkeyServer) -> None:
    lease_needs = await rig.pushed()
    server.pause()
    try:
        begin = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="in time"):
            await rig.step()
        assert time.monotonic() - begin < IN_TIME
    finally:
        server.resume()
    assert await rig.state(lease_needs) is State.QUEUED


async def test_acknowledged_pushes_survive_a_killed_server(rig: Rig, server: ValkeyServer) -> None:
    """C4 in small, with AOF always: the same broker goes on after the restart."""
    acknowledged: list[str] = []
    for _ in range(3):
        tasks = [rig.task() for _ in range(50)]
        # A server that has just started may be loading its data still.
        await until(lambda: _pushed(rig, tasks))  # noqa: B023
        acknowledged += [task.id for task in tasks]
        server.kill()
        with pytest.raises(BrokerUnavailable):
            await rig.push(rig.task())
        server.start()
    await until(lambda: _has(rig, acknowledged), 5)
    assert await rig.is_healthy()


class TestLostReplies:
    """D2: what was sent is sent again, and stored once."""

    async def test_a_lost_reply_is_asked_for_again(self, proxy: FaultProxy) -> None:
        async with rig_on(proxy.url) as rig:
            await rig.pushed()
            task = rig.task(key="k")
            proxy.restart_numbers()
            rule = proxy.drop_reply(1)
            assert await rig.push(task) == [Pushed(task.id)]
            assert rule.fired.is_set()
            assert await rig.counts() == {State.QUEUED: 2}

    async def test_three_lost_replies_are_unknown(self, proxy: FaultProxy) -> None:
        async with rig_on(proxy.url) as rig:
            await rig.pushed()
            task = rig.task()
            proxy.restart_numbers()
            for number in (1, 2, 3):
                proxy.drop_reply(number)
            with pytest.raises(EnqueueUnknown) as caught:
                await rig.push(task)
            assert caught.value.ids == (task.id,)
            assert proxy.counts["EVALSHA"] == 3
            assert await rig.push(task) == [Pushed(task.id)]
            assert await rig.counts() == {State.QUEUED: 2}

    async def test_silence_ends_in_time_too(self, proxy: FaultProxy) -> None:
        async with rig_on(f"{proxy.url}?timeout=0.3") as rig:
            await rig.pushed()
            task = rig.task()
            proxy.restart_numbers()
            proxy.at(1, "after", Act.SILENCE)
            assert await rig.push(task) == [Pushed(task.id)]
            assert await rig.counts() == {State.QUEUED: 2}

    async def test_nothing_sent_is_nothing_unknown(self, proxy: FaultProxy) -> None:
        async with rig_on(proxy.url) as rig:
            await rig.pushed()
            proxy.refuse()
            proxy.reset()
            await asyncio.to_thread(proxy.wait_until, lambda proxy: proxy.connections == 0)
            with pytest.raises(BrokerUnavailable):
                await rig.push(rig.task())
            proxy.heal()
            assert await rig.counts() == {State.QUEUED: 1}

    async def test_a_step_is_not_sent_twice(self, proxy: FaultProxy) -> None:
        """The worker asks what it holds instead."""
        async with rig_on(proxy.url) as rig:
            await rig.push(*(rig.task() for _ in range(5)))
            await rig.worker()
            await rig.step(want=1)
            proxy.restart_numbers()
            proxy.drop_reply(1)
            with pytest.raises(BrokerUnavailable):
                await rig.step(want=2)
            assert proxy.counts["EVALSHA"] == 1
            assert len(await rig.broker.held("w")) == 3


async def test_a_crash_at_any_command_leaves_every_invariant(server: ValkeyServer) -> None:
    """L3: the connection dies before and after each command of a task's life; the worker carries
    on as its engine would, and in the end everything ran to its end.
    """
    for number in range(1, 12):
        for phase in ("before", "after"):
            with server.client() as client:
                client.flushall()
            with FaultProxy.before(server.url) as proxy:
                async with rig_on(proxy.url) as rig:
                    proxy.restart_numbers()
                    proxy.at(number, "before" if phase == "before" else "after", Act.RESET)
                    task = rig.task(max_attempts=3)
                    await until(lambda: _life(rig, task.id, NewTask(task)))  # noqa: B023
                    assert await rig.is_healthy()
                    info = await rig.broker.inspector.get(task.id)
                    numbers = [execution.number for execution in info.executions]
                    assert numbers == sorted(set(numbers))


async def _life(rig: Rig, task_id: str, new: NewTask) -> bool:
    """Push, fail once, succeed; from wherever an error has left it."""
    await rig.broker.push([new])
    await rig.broker.renew(["w"], 60)
    await rig.broker.step(Step("w", ["q"], 1))
    settlements: list[Settlement] = []
    for holding in await rig.broker.held("w"):
        outcome = failure(delay=0) if holding.lease.execution == 1 else ok()
        settlements.append(rig.settlement(holding.lease, outcome))
    await rig.broker.step(Step("w", ["q"], 0, settlements))
    return (await rig.broker.inspector.get(task_id)).state is State.SUCCEEDED


async def _has(rig: Rig, ids: list[str]) -> bool:
    listed = await rig.broker.inspector.tasks(Filter(limit=1_000))
    return {info.id for info in listed} >= set(ids)


async def _pushed(rig: Rig, tasks: list[Task]) -> bool:
    return await rig.push(*tasks) == [Pushed(task.id) for task in tasks]


async def _step_on(rig: Rig) -> None:
    while True:
        await rig.step()


def _run_for_ever(client: "redis.Redis") -> None:
    with suppress(redis.RedisError):
        client.eval("while true do end", 0)


def _kill_script(client: "redis.Redis") -> bool:
    with suppress(redis.RedisError):
        return bool(client.script_kill())
    return False
