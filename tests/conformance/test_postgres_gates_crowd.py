"""Limits on PostgreSQL when many step at once: they hold, and everything ends."""

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest

from conveyor.brokers.base import Broker, Step
from conveyor.core.gates import Gate
from conveyor.core.task import Lease, NewTask, State, Task, Terms, Unique
from conveyor.testing.conformance.gates_rig import (
    gated,
    line,
    slots,
)
from conveyor.testing.conformance.rig import Capabilities, Rig, failure, ok
from tests.conformance.test_postgres_gates import rig
from tests.servers import PostgresServer

WORKERS = 4

__all__ = ["rig"]


async def work(
    broker: Broker,
    me: str,
    tasks: int,
    done: Counter[str],
    running: Counter[str],
    peak: Counter[str],
) -> list[float]:
    """Step until all tasks of everybody are done, and count what runs at a time."""
    dice, starts = random.Random(me), list[float]()
    leases: list[Lease] = []
    rig = Rig(lambda _: broker, Capabilities())
    await broker.renew([me], 60)
    while done.total() < tasks:
        ending = leases[: dice.randint(0, len(leases))]
        leases = leases[len(ending) :]
        for lease in ending:
            running.subtract(names(lease.task))
        settlements = [
            rig.settlement(lease, failure(delay=0.0) if dice.random() < 0.1 else ok())
            for lease in ending
        ]
        reply = await broker.step(Step(me, ("q", "r"), dice.randint(1, 5), settlements))
        assert not reply.refused
        for end in settlements:
            if end.transition.to is State.SUCCEEDED:
                done[end.lease.task.id] += 1
        starts += [lease.leased_at for lease in reply.leases]
        for lease in reply.leases:
            running.update(names(lease.task))
        peak |= running
        leases += reply.leases
        # Others get a turn between two steps of one.
        await asyncio.sleep(0)
    return starts


def names(task: Task) -> list[str]:
    assert task.terms is not None
    return [gate.id for gate in task.terms.gates]


def some_task(rig: Rig, dice: random.Random) -> Task:
    gates = [
        Gate("all", most=3),
        slots(2, key=str(dice.randint(0, 3))),
        line(str(dice.randint(0, 5))),
        Gate("z", str(dice.randint(0, 3)), most=1),
    ]
    chosen = dice.sample(gates, dice.randint(1, 3))
    fair = dice.choice([None, "a", "b"])
    priority = dice.choice([5, 5, 9])
    queue = dice.choice(["q", "r"])
    return gated(rig, *chosen, fair=fair, queue=queue, priority=priority, max_attempts=1_000)


@pytest.mark.parametrize("seed", range(3))
async def test_limits_hold_and_everything_ends_when_many_step_at_once(
    rig: Rig, postgres: PostgresServer, postgres_url: str, seed: int
) -> None:
    dice = random.Random(seed)
    tasks = [some_task(rig, dice) for _ in range(150)]
    brokers = [await rig.another(given_clock=False) for _ in range(WORKERS)]
    done, running, peak = Counter[str](), Counter[str](), Counter[str]()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number, broker in enumerate(brokers):
            group.create_task(work(broker, f"w{number}", len(tasks), done, running, peak))
        for start in range(0, len(tasks), 10):
            await brokers[start % WORKERS].push(
                [NewTask(task) for task in tasks[start : start + 10]]
            )
    most = {"all\n": 3} | {f"slots\n{n}": 2 for n in range(4)}
    assert all(number <= most.get(gate, 1) for gate, number in peak.items())
    assert set(done.values()) == {1}
    assert await rig.is_healthy()
    (deadlocks,) = postgres.fetch(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
        url=postgres_url,
    )
    assert deadlocks == (0,)


async def test_a_rate_holds_when_many_step_at_once(rig: Rig) -> None:
    gate = Gate("api", rate=200.0, burst=5.0)
    tasks = [gated(rig, gate, fair=str(n % 7)) for n in range(100)]
    # With the time of the call as the time of the start, the bound holds to the microsecond.
    brokers = [rig.broker, *[await rig.another() for _ in range(WORKERS - 1)]]
    await rig.push(*tasks)
    done, running, peak = Counter[str](), Counter[str](), Counter[str]()

    async def tick() -> None:
        while done.total() < len(tasks):
            rig.clock.advance(0.0005)
            await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        jobs = [
            group.create_task(work(broker, f"w{number}", len(tasks), done, running, peak))
            for number, broker in enumerate(brokers)
        ]
        group.create_task(tick())
    starts = sorted(start for job in jobs for start in job.result())
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= 5 + 200 * (starts[last] - starts[first]) + 1e-3


async def serve(broker: Broker, me: str, queues: tuple[str, ...], left: set[str]) -> None:
    """Work without a poll: step when a bell rings or something is due, and when work ended."""
    rig, rung, ended = Rig(lambda _: broker, Capabilities()), asyncio.Event(), list[Lease]()
    await broker.renew([me], 60)
    async with broker.listen(me, queues, rung.set):
        while left:
            rung.clear()
            settlements = [rig.settlement(lease, ok()) for lease in ended]
            reply = await broker.step(Step(me, queues, 3, settlements, slots=2))
            left -= {lease.task.id for lease in ended}
            ended = list(reply.leases)
            if not ended and left:
                with suppress(TimeoutError):
                    async with asyncio.timeout(reply.next_due):
                        await rung.wait()
        # Whoever waits for a bell that will not ring any more.
        await broker.pause("q", None)
        await broker.pause("r", None)


@pytest.mark.parametrize("seed", range(3))
async def test_no_lane_is_left_asleep(rig: Rig, seed: int) -> None:
    dice = random.Random(seed)
    tasks = [some_task(rig, dice) for _ in range(100)]
    api = Gate("api", rate=300.0, burst=2.0)
    tasks += [gated(rig, api, fair=str(n % 9), queue=dice.choice("qr")) for n in range(60)]
    dice.shuffle(tasks)
    left = {task.id for task in tasks}
    brokers = [await rig.another(given_clock=False) for _ in range(WORKERS)]
    served = [("q",), ("r",), ("q", "r"), ("r", "q")]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number, (broker, queues) in enumerate(zip(brokers, served, strict=True)):
            group.create_task(serve(broker, f"w{number}", queues, left))
        for start in range(0, len(tasks), 4):
            await brokers[start % WORKERS].push(
                [NewTask(task) for task in tasks[start : start + 4]]
            )
    assert (await rig.counts()) == {State.SUCCEEDED: len(tasks)}
    assert await rig.is_healthy()


async def test_of_many_pushes_with_one_key_one_is_stored(rig: Rig) -> None:
    brokers = [rig.broker, *[await rig.another() for _ in range(WORKERS - 1)]]

    def batch() -> list[NewTask]:
        rules = [
            Unique(str(key), "done", on_conflict=c)
            for key in range(9)
            for c in ("return", "replace")
        ]
        random.shuffle(rules)
        return [NewTask(rig.task(terms=Terms(unique=rule))) for rule in rules]

    await asyncio.gather(*(broker.push(batch()) for broker in brokers for _ in range(5)))
    counts = await rig.counts()
    assert counts[State.QUEUED] == 9
    assert await rig.is_healthy()
