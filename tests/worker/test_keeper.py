"""The keeper: leadership, rescue, and the clocks it must not trust (contract D6, D25)."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from msgspec import structs

from conveyor import Conveyor, maintenance
from conveyor.brokers.base import Broker, Step
from conveyor.brokers.url import connect
from conveyor.core.errors import BrokerUnavailable
from conveyor.core.lifecycle import LOST_ERROR
from conveyor.core.task import Lease, NewTask, State, TaskInfo
from conveyor.keeper.keeper import ROLE, Keeper
from conveyor.keeper.pauses import FIRST, LONGEST, Pauses
from conveyor.keeper.rescuer import rescue
from conveyor.keeper.watch import ClockWatch
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock
from tests.worker.harness import lease_of, soon

LEASE = 15.0


def half() -> float:
    return 0.5


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def broker(broker_url: str, clock: ManualClock) -> AsyncIterator[Broker]:
    broker = connect(broker_url, clock=clock)
    await broker.migrate()
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
def keeper(broker: Broker, clock: ManualClock) -> Keeper:
    return Keeper(broker, clock, half, "k1", lease=LEASE)


async def hold(broker: Broker, count: int = 1) -> list[Lease]:
    """Enqueue tasks and lease them to a worker that says nothing more."""
    worker = new_id()
    tasks = [NewTask(lease_of("echo", (n,)).task) for n in range(count)]
    await broker.push(tasks)
    await broker.renew([worker], LEASE)
    reply = await broker.step(Step(worker, ("default",), count))
    assert len(reply.leases) == count
    return list(reply.leases)


async def info(broker: Broker, lease: Lease) -> TaskInfo:
    return await broker.inspector.get(lease.task.id)


# -- rescue


async def test_puts_back_what_a_silent_worker_held(
    broker: Broker, clock: ManualClock, keeper: Keeper
) -> None:
    (lease,) = await hold(broker)
    clock.advance(LEASE - 1)
    assert await keeper.round()
    assert (await info(broker, lease)).state is State.RUNNING
    clock.advance(2)
    assert await keeper.round()
    task = await info(broker, lease)
    assert (task.state, task.attempts) == (State.QUEUED, 0)
    record = task.executions[-1]
    assert (record.outcome, record.number, record.worker) == ("lost", 1, lease.worker)
    assert record.error == LOST_ERROR
    assert record.duration == pytest.approx(LEASE + 1, abs=0.1)


async def test_rescues_more_than_one_batch(broker: Broker, clock: ManualClock) -> None:
    leases = await hold(broker, 5)
    clock.advance(LEASE + 1)
    assert await rescue(broker, clock, half, "k1", batch=2) == 5
    assert await rescue(broker, clock, half, "k1", batch=2) == 0
    assert {(await info(broker, lease)).state for lease in leases} == {State.QUEUED}


async def test_leaves_what_is_renewed(broker: Broker, clock: ManualClock, keeper: Keeper) -> None:
    (lease,) = await hold(broker)
    for _ in range(3):
        clock.advance(LEASE / 2)
        await broker.renew([lease.worker], LEASE)
        assert await keeper.round()
    assert (await info(broker, lease)).state is State.RUNNING


async def test_promotes_what_is_due_and_prunes_what_is_old(
    broker: Broker, clock: ManualClock, keeper: Keeper
) -> None:
    later = lease_of("echo", (1,)).task
    await broker.push([NewTask(later, delay=30)])
    assert await keeper.round()
    assert (await broker.inspector.get(later.id)).state is State.SCHEDULED
    clock.advance(31)
    assert await keeper.round()
    assert (await broker.inspector.get(later.id)).state is State.QUEUED


async def test_queues_that_are_new_during_maintenance_are_paused(
    broker: Broker, broker_url: str, clock: ManualClock, keeper: Keeper
) -> None:
    async def paused() -> dict[str, bool]:
        queues = await broker.inspector.queues()
        return {one.name: one.pause is not None for one in queues}

    async def told(*queues: str) -> None:
        tasks = [lease_of("echo").task for _ in queues]
        moved = [structs.replace(one, queue=at) for one, at in zip(tasks, queues, strict=True)]
        await broker.push([NewTask(task) for task in moved])

    await told("old")
    async with Conveyor(broker_url, clock=clock) as app:
        await maintenance.begin(app, reason="a new disk", by="ada")
        await told("new", "wanted")
        assert await keeper.round()
        assert await paused() == {"old": True, "new": True, "wanted": True}
        await broker.pause("wanted", None)
        assert await keeper.round()
        assert await paused() == {"old": True, "new": True, "wanted": False}
        assert sorted(await maintenance.end(app)) == ["new", "old"]
    await told("newer")
    assert await keeper.round()
    assert not any((await paused()).values())


# -- leadership


async def test_only_the_leader_acts(broker: Broker, clock: ManualClock, keeper: Keeper) -> None:
    other = Keeper(broker, clock, half, "k2", lease=LEASE)
    assert await keeper.round()
    (lease,) = await hold(broker)
    clock.advance(12)
    assert await keeper.round()
    clock.advance(4)
    assert not await other.round()
    assert (await info(broker, lease)).state is State.RUNNING, "its lease is over, but it led not"
    clock.advance(1.5)
    # The first one's time is over, and it is the other that asks.
    assert await other.round()
    assert not await keeper.round()
    assert (await info(broker, lease)).state is State.QUEUED


async def test_resigns_when_it_ends(broker: Broker, clock: ManualClock, keeper: Keeper) -> None:
    running = asyncio.create_task(keeper.run())
    await soon(lambda: keeper.leading)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await broker.lead(ROLE, "k2", 10) is not None


# -- clocks that jump, brokers that are away


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_whoever_leads_after_a_jump_knows_of_it(
    broker: Broker, clock: ManualClock, keeper: Keeper, jump: float
) -> None:
    """The term of the leader is over by the jump itself, and another may ask first."""
    other = Keeper(broker, clock, half, "k2", lease=LEASE)
    (lease,) = await hold(broker)
    for _ in range(7):
        assert await keeper.round()
        assert not await other.round()
        clock.advance(2)
    clock.jump(jump)
    await other.round()
    await keeper.round()
    assert (await info(broker, lease)).state is State.RUNNING
    for _ in range(16):
        clock.advance(2)
        await other.round()
        await keeper.round()
    assert (await info(broker, lease)).state is State.QUEUED, "nobody renewed it"


@pytest.mark.parametrize("jump", [3600.0, 2.5])
async def test_a_clock_that_jumps_ahead_rescues_nobody(
    broker: Broker, clock: ManualClock, keeper: Keeper, jump: float
) -> None:
    (lease,) = await hold(broker)
    assert await keeper.round()
    clock.advance(13)
    clock.jump(jump)
    assert await keeper.round()
    clock.advance(2)
    assert await keeper.round()
    assert (await info(broker, lease)).state is State.RUNNING
    # A worker that lives renews within a lease and keeps its task.
    assert (await broker.renew([lease.worker], LEASE))[lease.worker].alive


async def test_after_a_jump_the_dead_are_rescued_one_lease_later(
    broker: Broker, clock: ManualClock, keeper: Keeper
) -> None:
    (lease,) = await hold(broker)
    assert await keeper.round()
    clock.advance(2)
    clock.jump(3600)
    for _ in range(16):
        assert await keeper.round()
        clock.advance(2)
    assert (await info(broker, lease)).state is State.QUEUED


def test_the_watch_tells_jumps_from_time() -> None:
    watch = ClockWatch()
    assert watch.disturbed(1000.0, 10.0) is None
    assert watch.disturbed(1002.0, 12.0) is None
    assert watch.disturbed(1063.0, 72.0) is None, "a keeper that was stopped for a minute"
    assert "jumped by +3600" in str(watch.disturbed(4665.0, 74.0))
    assert watch.disturbed(4667.0, 76.0) is None
    assert "jumped by -3600" in str(watch.disturbed(1069.0, 78.0))


def test_the_watch_remembers_an_outage() -> None:
    watch = ClockWatch()
    assert watch.disturbed(1000.0, 10.0) is None
    watch.failed(11.0)
    assert watch.disturbed(1002.0, 12.0) is None, "a second is nothing"
    watch.failed(13.0)
    watch.failed(15.0)
    assert "away for 3.0 s" in str(watch.disturbed(1006.0, 16.0))
    watch.failed(17.0)
    watch.followed()
    watch.read(9998.0, 29.0)
    assert watch.disturbed(9999.0, 30.0) is None, "someone else led meanwhile"


async def test_after_an_outage_every_lease_is_lengthened(
    broker: Broker, clock: ManualClock
) -> None:
    flaky = Outage(broker)
    keeper = Keeper(cast("Broker", flaky), clock, half, "k1", lease=LEASE, every=0.01)
    (lease,) = await hold(broker)
    assert await keeper.round()
    flaky.away = True
    running = asyncio.create_task(keeper.run())
    await flaky.called(1)
    clock.advance(LEASE + 5)
    flaky.away = False
    await flaky.called(2)
    running.cancel()
    await asyncio.wait([running])
    assert flaky.graces == [LEASE]
    assert (await info(broker, lease)).state is State.RUNNING


class Outage:
    """A broker that is away for a while."""

    def __init__(self, broker: Broker) -> None:
        self.inner = broker
        self.away = False
        self.graces: list[float] = []
        self.calls = 0
        self.rung = asyncio.Event()

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.inner, verb)

    async def lead(self, role: str, holder: str, seconds: float) -> float | None:
        self.calls += 1
        self.rung.set()
        if self.away:
            raise BrokerUnavailable("gone")
        return await self.inner.lead(role, holder, seconds)

    async def grace(self, seconds: float) -> None:
        self.graces.append(seconds)
        await self.inner.grace(seconds)

    async def called(self, more: int) -> None:
        """Wait until `lead` was called so many more times, and the last call has ended."""
        goal = self.calls + more + 1
        async with asyncio.timeout(10):
            while self.calls < goal:
                self.rung.clear()
                await self.rung.wait()


# -- pauses, and the process


@pytest.mark.parametrize("dice", [lambda: 0.0, lambda: 0.999])
def test_pauses_grow_to_their_longest(dice: Callable[[], float]) -> None:
    pauses = Pauses(dice)
    drawn = [pauses.next() for _ in range(10)]
    assert FIRST / 2 <= drawn[0] <= FIRST
    assert LONGEST / 2 <= drawn[-1] <= LONGEST
    assert drawn == sorted(drawn)
    pauses.reset()
    assert pauses.next() <= FIRST


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_alone_it_keeps_house_until_told_to_stop(
    sqlite_url: str, number: signal.Signals
) -> None:
    broker = connect(sqlite_url)
    await broker.open()
    (lease,) = await hold(broker)
    await broker.renew([lease.worker], 0.1)

    async def is_rescued() -> bool:
        return (await info(broker, lease)).state is State.QUEUED

    process = start_keeper(sqlite_url)
    try:
        await soon(is_rescued, within=15)
    finally:
        process.send_signal(number)
        assert process.wait(10) == 0
    await broker.close()


def test_alone_it_says_why_it_cannot_begin() -> None:
    process = start_keeper("redis://:secret@127.0.0.1:1/0", stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=15)
    (line,) = said.decode().strip().splitlines()
    assert process.returncode == 3
    assert "127.0.0.1" in line
    assert "secret" not in line


def start_keeper(url: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    code = "import sys; from conveyor.keeper.main import run; sys.exit(run(sys.argv[1]))"
    return subprocess.Popen([sys.executable, "-c", code, url], stderr=stderr)
