"""Many lanes at once on Redis: what a wave gives is what its lanes give one by one, for less."""

import random
from typing import Any

import pytest

from conveyor.brokers.base import Step
from conveyor.core.gates import Gate
from conveyor.core.task import Fair, Task
from conveyor.testing.conformance.gates_rig import gated, slots, take, taken
from conveyor.testing.conformance.rig import Rig, ids, ok
from tests.unit.test_redis_gates import A_LOOK_AROUND, calls, client, rig

__all__ = ["client", "rig"]

FEW = 6.0
"""Commands for a task in a lane of its own, from its lease to its end."""


def some_terms(dice: random.Random, queue: str) -> dict[str, Any]:
    """Gates of a task, few of which refuse; or none, or a fairness key."""
    key = str(dice.randrange(12))
    wide = Gate(f"{queue}.wide", key, most=1_000)
    rate = Gate(f"{queue}.rate", key, rate=1e6, burst=1e6)
    tight = Gate(f"{queue}.tight", key, most=2)
    scarce = Gate(f"{queue}.scarce", key, rate=0.001, burst=3.0)
    gates = dice.choice([(), (wide,), (rate,), (wide, rate), (tight,), (scarce, wide), (wide,)])
    fair = key if not gates or dice.random() < 0.3 else None
    return {"gates": gates, "fair": fair, "weight": dice.choice([1, 1, 3])}


def made(rig: Rig, dice: random.Random, queue: str) -> Task:
    """Make a task, now and then a plain one."""
    priority = dice.choice([5, 5, 5, 7])
    if dice.random() < 0.1:
        return rig.task(queue=queue, priority=priority)
    terms = some_terms(dice, queue)
    gates = terms.pop("gates")
    return gated(rig, *gates, queue=queue, priority=priority, **terms)


async def drained(rig: Rig, queue: str, want: int) -> list[str]:
    """Lease so many at a time until nothing comes."""
    found: list[str] = []
    while True:
        reply = await rig.broker.step(Step("w", (queue,), want))
        found += taken(reply.leases)
        if not reply.leases:
            return found


@pytest.mark.parametrize("seed", range(6))
async def test_waves_keep_the_order_of_single_looks(rig: Rig, seed: int) -> None:
    dice, twin = random.Random(seed), random.Random(seed)
    singly: list[str] = []
    together: list[str] = []
    for _ in range(120):
        rig.clock.advance(0.002)
        one, other = made(rig, dice, "one"), made(rig, twin, "other")
        await rig.push(one, other)
        singly.append(one.id)
        together.append(other.id)
    await rig.worker(seconds=600)
    first = [singly.index(task_id) for task_id in await drained(rig, "one", 1)]
    second = [together.index(task_id) for task_id in await drained(rig, "other", 50)]
    assert second == first
    assert await rig.is_healthy()


@pytest.mark.parametrize("kind", ["slots", "rate", "fair"])
async def test_a_task_in_a_lane_of_its_own_costs_few_commands(
    rig: Rig, client: Any, kind: str
) -> None:
    def terms(n: int) -> Task:
        if kind == "fair":
            return gated(rig, fair=str(n))
        gate = Gate(kind, str(n), most=5) if kind == "slots" else Gate(kind, str(n), rate=1e6)
        return gated(rig, gate)

    tasks = [terms(n) for n in range(200)]
    await rig.push(*tasks)
    await rig.worker()
    before = calls(client)
    leases = (await rig.step(want=200)).leases
    assert sorted(taken(leases)) == sorted(ids(tasks))
    await rig.step(*(rig.settlement(lease, ok()) for lease in leases))
    assert calls(client) - before <= 200 * FEW + A_LOOK_AROUND
    assert await rig.is_healthy()


async def test_a_wave_takes_a_whole_turn(rig: Rig) -> None:
    tasks = {key: [gated(rig, fair=key, weight=3) for _ in range(6)] for key in "abc"}
    for key in "abc":
        rig.clock.advance(0.01)
        await rig.push(*tasks[key])
    owner = {task.id: key for key, mine in tasks.items() for task in mine}
    order = "".join(owner[task_id] for task_id in taken(await take(rig, want=18)))
    assert order == "aaabbbccc" * 2
    assert all(isinstance(task.terms and task.terms.fair, Fair) for task in tasks["a"])


async def test_a_slot_that_a_wave_took_is_seen_by_the_next_look(rig: Rig) -> None:
    """The same gate in many lanes: no more than its slots are taken."""
    for n in range(12):
        rig.clock.advance(0.01)
        await rig.push(gated(rig, slots(5), fair=str(n)))
    leases = await take(rig, want=12)
    assert len(leases) == 5
    assert await rig.is_healthy()
    await rig.step(*(rig.settlement(lease, ok()) for lease in leases), want=0)
    assert len(await take(rig, want=12)) == 5


async def test_a_lane_that_is_cut_short_keeps_the_rest(rig: Rig) -> None:
    tasks = []
    for _ in range(4):
        for key in "abcd":
            rig.clock.advance(0.01)
            tasks.append(gated(rig, slots(50, key=key)))
            await rig.push(tasks[-1])
    found: list[str] = []
    for want in (3, 6, 5, 9):
        found += taken(await take(rig, want=want))
    assert found == ids(tasks)
    assert await rig.is_healthy()
