"""Many at once, over several connections: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
from collections import Counter

from conveyor.brokers.base import LEASE_SECONDS, Broker, Settlement, Step
from conveyor.core.outcome import Lost
from conveyor.core.task import NewTask, State
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def brokers_of(rig: Rig, number: int) -> list[Broker]:
    """Open more brokers on the same store."""
    return [rig.broker, *[await rig.another() for _ in range(number - 1)]]


async def drain(rig: Rig, broker: Broker, worker: str, total: int, runs: Counter[str]) -> None:
    """Work until `total` executions were run by all workers together."""
    await broker.renew([worker], LEASE_SECONDS)
    settlements: list[Settlement] = []
    while True:
        reply = await broker.step(Step(worker, ["q", "r"], 7, settlements))
        assert not reply.refused
        settlements = [rig.settlement(lease, ok()) for lease in reply.leases]
        runs.update(lease.task.id for lease in reply.leases)
        if not settlements and runs.total() >= total:
            return


async def test_many_claimers_run_every_task_once(rig: Rig) -> None:
    """D19, I6: producers and workers at the same time, on three connections."""
    brokers = await brokers_of(rig, 3)
    tasks = [rig.task(queue="qr"[n % 2], priority=n % 10) for n in range(300)]
    runs: Counter[str] = Counter()

    async def produce(broker: Broker, mine: int) -> None:
        for start in range(mine * 10, len(tasks), 30):
            await broker.push([NewTask(task) for task in tasks[start : start + 10]])

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(produce(broker, index) for index, broker in enumerate(brokers)),
            *(drain(rig, brokers[n % 3], f"w{n}", len(tasks), runs) for n in range(6)),
        )
    assert runs == Counter(ids(tasks))
    assert await rig.counts() == {State.SUCCEEDED: len(tasks)}
    assert await rig.is_healthy()


async def test_only_one_of_many_settlers_is_accepted(rig: Rig) -> None:
    brokers = await brokers_of(rig, 3)
    for _ in range(10):
        task = await rig.pushed()
        lease = await rig.lease()
        settlements = [
            rig.settlement(lease, outcome) for outcome in (ok(), failure(final=True), Lost())
        ]
        replies = await asyncio.gather(
            *(
                broker.step(Step(f"s{index}", ["q"], 0, [settlement]))
                for index, (broker, settlement) in enumerate(zip(brokers, settlements, strict=True))
            )
        )
        accepted = [
            settlement.transition.to
            for settlement, reply in zip(settlements, replies, strict=True)
            if not reply.refused
        ]
        assert [await rig.state(task)] == accepted
        await rig.broker.cancel([task.id])


async def test_many_producers_of_one_key_make_one_task(rig: Rig) -> None:
    """D3: a unique index, not a query."""
    brokers = await brokers_of(rig, 3)
    for round_number in range(5):
        tasks = [rig.task(key=f"k{round_number}") for _ in range(9)]
        answers = await asyncio.gather(
            *(brokers[n % 3].push([NewTask(task)]) for n, task in enumerate(tasks))
        )
        pushed = [answer for (answer,) in answers]
        (created,) = [answer for answer in pushed if answer.created]
        assert {answer.id for answer in pushed} == {created.id}
        assert not any(answer.conflict for answer in pushed)
    assert await rig.counts() == {State.QUEUED: 5}


async def test_a_push_repeated_at_the_same_time_is_one_task(rig: Rig) -> None:
    """D2: the retry may overtake the first try."""
    brokers = await brokers_of(rig, 3)
    tasks = [NewTask(rig.task()) for _ in range(30)]
    reverse = tasks[::-1]
    await asyncio.gather(*(broker.push(batch) for broker in brokers for batch in (tasks, reverse)))
    assert await rig.counts() == {State.QUEUED: 30}
    assert len(await rig.waiting_ids(want=100)) == 30


async def test_a_cancellation_races_with_a_lease(rig: Rig) -> None:
    """Each task is either cancelled while waiting or leased with its worker told: never both."""
    brokers = await brokers_of(rig, 2)
    tasks = [rig.task() for _ in range(40)]
    await rig.push(*tasks)
    await rig.worker()
    told: set[str] = set()
    leased: set[str] = set()

    async def work() -> None:
        while True:
            reply = await brokers[0].step(Step("w", ["q"], 3))
            leased.update(lease.task.id for lease in reply.leases)
            told.update(reply.cancels)
            if not reply.leases:
                return
            await asyncio.sleep(0)

    async def stop() -> dict[str, State]:
        states: dict[str, State] = {}
        for start in range(0, 40, 4):
            states |= await brokers[1].cancel(ids(tasks[start : start + 4]))
        return states

    _, states = await asyncio.gather(work(), stop())
    await work()
    told |= set((await rig.broker.renew(["w"], 15))["w"].cancels)
    assert leased == {one for one, state in states.items() if state is State.RUNNING}
    assert leased <= told
    counts = await rig.counts()
    assert counts.get(State.CANCELLED, 0) == 40 - len(leased)


async def test_only_one_of_many_requeues_revives(rig: Rig) -> None:
    brokers = await brokers_of(rig, 3)
    tasks = [rig.task() for _ in range(10)]
    await rig.push(*tasks)
    await rig.broker.cancel(ids(tasks))
    answers = await asyncio.gather(
        *(broker.requeue(batch) for broker in brokers for batch in (ids(tasks), ids(tasks)[::-1]))
    )
    assert Counter(one for answer in answers for one in answer) == Counter(ids(tasks))
    assert len(await rig.waiting_ids(want=100)) == 10


async def test_two_keepers_rescue_each_task_once(rig: Rig) -> None:
    """Leadership only saves work: the fence makes two sweeps harmless."""
    brokers = await brokers_of(rig, 2)
    await rig.push(*(rig.task() for _ in range(12)))
    await rig.waiting_ids(want=12)
    rig.clock.advance(LEASE_SECONDS + 1)

    async def sweep(broker: Broker) -> int:
        holdings = await broker.held()
        settlements = [rig.settlement(holding.lease, Lost()) for holding in holdings]
        reply = await broker.step(Step("keeper", ["q"], 0, settlements))
        return len(settlements) - len(reply.refused)

    assert sum(await asyncio.gather(*map(sweep, brokers))) == 12
    await rig.worker("fresh")
    leases = (await rig.step(want=20, worker="fresh")).leases
    assert [lease.execution for lease in leases] == [2] * 12
    assert all(lease.counters.losses == 1 for lease in leases)


async def test_all_verbs_may_be_called_at_the_same_time_on_one_broker(rig: Rig) -> None:
    broker = rig.broker
    tasks = [rig.task() for _ in range(30)]
    await rig.worker()
    results = await asyncio.gather(
        *(broker.push([NewTask(task)]) for task in tasks),
        *(broker.step(Step("w", ["q"], 2)) for _ in range(20)),
        *(broker.renew(["w"], 15) for _ in range(5)),
        *(broker.inspector.counts() for _ in range(5)),
        *(broker.tidy() for _ in range(3)),
        *(broker.inspector.check() for _ in range(2)),
    )
    assert len(results) == 65
    counts = await rig.counts()
    assert sum(counts.values()) == 30
    assert len(await broker.held("w", limit=100)) == counts.get(State.RUNNING, 0)
    assert await rig.is_healthy()
