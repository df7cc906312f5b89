"""Limits: what `conveyor.brokers.gates` says a step does with gated tasks."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor.brokers.base import Step
from conveyor.core.gates import SLACK
from conveyor.core.outcome import Cancelled, Interrupted, Lost, Released, Snoozed
from conveyor.core.task import State
from conveyor.testing.conformance.gates_rig import (
    ME,
    gated,
    per_second,
    pushed,
    slots,
    take,
    take_as,
    taken,
)
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def test_a_gated_task_runs_and_ends_like_any_other(rig: Rig) -> None:
    (task,) = await pushed(rig, 1, slots())
    assert await rig.state(task) is State.QUEUED
    (lease,) = await take(rig)
    assert lease.task == task
    assert lease.execution == 1
    assert await rig.settle(lease, ok(1))
    assert await rig.state(task) is State.SUCCEEDED
    assert await rig.is_healthy()


async def test_slots_are_never_exceeded_and_freed_by_the_end(rig: Rig) -> None:
    tasks = await pushed(rig, 5, slots(2))
    first = await take(rig)
    assert taken(first) == ids(tasks[:2])
    assert await take(rig) == []
    assert await rig.settle(first[0], ok())
    assert taken(await take(rig)) == ids(tasks[2:3])
    assert await rig.is_healthy()


@pytest.mark.parametrize(
    "outcome",
    [
        ok(),
        failure(final=True),
        failure(),
        Snoozed(60),
        Cancelled(),
        Interrupted(),
        Released(),
        Lost(),
    ],
    ids=lambda outcome: outcome.name,
)
async def test_every_outcome_frees_the_slot(rig: Rig, outcome: Any) -> None:
    await pushed(rig, 1, slots())
    (lease,) = await take(rig)
    assert await rig.settle(lease, outcome)
    await rig.broker.cancel([lease.task.id])
    (other,) = await pushed(rig, 1, slots())
    assert taken(await take(rig)) == [other.id]
    assert await rig.is_healthy()


async def test_one_step_may_settle_and_take_the_freed_slot(rig: Rig) -> None:
    tasks = await pushed(rig, 2, slots())
    (lease,) = await take(rig)
    reply = await rig.step(rig.settlement(lease, ok()))
    assert taken(reply.leases) == [tasks[1].id]


async def test_a_stale_settlement_frees_nothing(rig: Rig) -> None:
    await pushed(rig, 2, slots())
    (lease,) = await take(rig)
    rig.clock.advance(100)
    held = await rig.broker.held(None)
    assert await rig.settle(held[0].lease, Lost())
    (again,) = await take_as(rig, "v")
    assert not await rig.settle(lease, ok())
    assert await take_as(rig, "v") == []
    assert await rig.settle(again, ok())
    assert len(await take_as(rig, "v")) == 1


async def test_keys_are_limits_of_their_own(rig: Rig) -> None:
    a, b = await pushed(rig, 2, slots(key="a")), await pushed(rig, 2, slots(key="b"))
    assert set(taken(await take(rig))) == {a[0].id, b[0].id}


async def test_a_limit_is_shared_across_queues(rig: Rig) -> None:
    here = gated(rig, slots())
    there = gated(rig, slots(), queue="r")
    await rig.push(here)
    await rig.push(there)
    (lease,) = await take(rig)
    await rig.worker()
    assert not (await rig.broker.step(Step("w", ("r",), 10))).leases
    await rig.settle(lease, ok())
    reply = await rig.broker.step(Step("w", ("r",), 10))
    assert taken(reply.leases) == [there.id]


async def test_a_rate_gives_its_burst_and_then_each_task_at_its_instant(rig: Rig) -> None:
    tasks = await pushed(rig, 6, per_second(10, burst=3))
    rig.clock.advance(1)
    start = rig.clock.time()
    assert len(await take(rig)) in {2, 3}
    rig.clock.advance(SLACK + 0.001)
    got = len(tasks) - (await rig.counts()).get(State.QUEUED, 0)
    got += len(await take(rig))
    assert got == 3
    await rig.worker()
    reply = await rig.step()
    assert reply.leases == () or not reply.leases
    assert reply.next_due is not None
    assert reply.next_due == pytest.approx(0.1 - SLACK, abs=0.1)
    while got < 6:
        rig.clock.advance(0.01)
        got += len(await take(rig))
        elapsed = rig.clock.time() - start
        assert got <= 3 + 10 * elapsed
    assert rig.clock.time() - start == pytest.approx(0.3, abs=0.05)


async def test_a_cost_takes_more_tokens(rig: Rig) -> None:
    await pushed(rig, 3, per_second(1, burst=4, cost=2.0))
    rig.clock.advance(10)
    first = len(await take(rig))
    rig.clock.advance(SLACK + 0.001)
    assert first + len(await take(rig)) == 2
    rig.clock.advance(1.5)
    assert await take(rig) == []
    rig.clock.advance(0.6)
    assert len(await take(rig)) == 1


async def test_a_task_may_cost_the_whole_burst(rig: Rig) -> None:
    await pushed(rig, 2, per_second(1, burst=4, cost=4.0))
    rig.clock.advance(10)
    assert len(await take(rig)) == 1
    rig.clock.advance(3.9)
    assert await take(rig) == []
    rig.clock.advance(0.2)
    assert len(await take(rig)) == 1


async def test_gates_are_taken_together_or_not_at_all(rig: Rig) -> None:
    await pushed(rig, 1, slots())
    (holder,) = await take(rig)
    both = await pushed(rig, 1, per_second(0.1), slots())
    assert await take(rig) == []
    lone = await pushed(rig, 1, per_second(0.1))
    # The refused one has taken no token.
    assert taken(await take(rig)) == ids(lone)
    await rig.settle(holder, ok())
    assert await take(rig) == []
    rig.clock.advance(10.1)
    assert taken(await take(rig)) == ids(both)


async def test_a_lane_that_is_refused_elsewhere_passes_the_slot_on(rig: Rig) -> None:
    await pushed(rig, 1, slots())
    (holder,) = await take(rig)
    await rig.broker.gates.close("rate", None, None, ME)
    await pushed(rig, 1, slots(), per_second(10))
    free = await pushed(rig, 1, slots(), key=None, priority=4)
    assert await take(rig) == []
    await rig.settle(holder, ok())
    assert taken(await take(rig)) == ids(free)


async def test_plain_tasks_do_not_wait_for_gated_ones(rig: Rig) -> None:
    await pushed(rig, 3, slots(1))
    plain = await rig.pushed()
    leases = await take(rig)
    assert len(leases) == 2
    assert plain.id in taken(leases)


async def test_a_gated_task_does_not_wait_behind_plain_ones(rig: Rig) -> None:
    (task,) = await pushed(rig, 1, slots())
    rig.clock.advance(1)
    for _ in range(5):
        await rig.pushed()
    assert taken(await take(rig, want=1)) == [task.id]


async def test_priorities_hold_between_lanes(rig: Rig) -> None:
    (low,) = await pushed(rig, 1, slots(5), priority=2)
    (high,) = await pushed(rig, 1, slots(5), priority=9)
    plain = await rig.pushed(priority=5)
    assert taken(await take(rig)) == [high.id, plain.id, low.id]


async def test_gated_tasks_are_leased_for_free_slots_only(rig: Rig) -> None:
    await pushed(rig, 5, slots(5))
    plain = [await rig.pushed() for _ in range(5)]
    leases = await take(rig, want=10, slots=2)
    assert len(leases) == 7
    assert set(ids(plain)) < set(taken(leases))
    assert await take(rig, want=10, slots=0) == []


async def test_a_delayed_gated_task_joins_its_lane_when_due(rig: Rig) -> None:
    task = gated(rig, slots())
    await rig.push(task, delay=60)
    assert await rig.state(task) is State.SCHEDULED
    assert await take(rig) == []
    rig.clock.advance(61)
    assert taken(await take(rig)) == [task.id]
    assert await rig.is_healthy()


async def test_a_delayed_gated_task_is_promoted_by_tidy(rig: Rig) -> None:
    task = gated(rig, slots())
    await rig.push(task, delay=60)
    rig.clock.advance(61)
    assert (await rig.broker.tidy()).promoted == 1
    assert await rig.state(task) is State.QUEUED
    assert taken(await take(rig)) == [task.id]


async def test_a_retry_waits_in_its_lane_again(rig: Rig) -> None:
    (task,) = await pushed(rig, 1, slots())
    (lease,) = await take(rig)
    await rig.settle(lease, failure(delay=5))
    assert await rig.state(task) is State.SCHEDULED
    rig.clock.advance(6)
    (again,) = await take(rig)
    assert (again.task, again.execution) == (task, 2)
    assert await take(rig) == []


async def test_a_waiting_gated_task_can_be_cancelled(rig: Rig) -> None:
    tasks = await pushed(rig, 3, slots(5))
    assert await rig.broker.cancel([tasks[1].id]) == {tasks[1].id: State.CANCELLED}
    assert taken(await take(rig)) == [tasks[0].id, tasks[2].id]
    assert await rig.is_healthy()


async def test_cancelling_all_of_a_lane_leaves_nothing_behind(rig: Rig) -> None:
    tasks = await pushed(rig, 3, slots())
    await rig.broker.cancel(ids(tasks))
    assert await take(rig) == []
    (fresh,) = await pushed(rig, 1, slots())
    assert taken(await take(rig)) == [fresh.id]
    assert await rig.is_healthy()


async def test_a_dead_gated_task_can_be_requeued(rig: Rig) -> None:
    (task,) = await pushed(rig, 1, slots())
    await rig.settle((await take(rig))[0], failure(final=True))
    assert await rig.broker.requeue([task.id]) == [task.id]
    (again,) = await take(rig)
    assert (again.task.id, again.execution) == (task.id, 2)
    assert await take(rig) == []


async def test_a_paused_queue_gives_out_no_gated_tasks(rig: Rig) -> None:
    tasks = await pushed(rig, 1, slots())
    await rig.broker.pause("q", ME)
    assert await take(rig) == []
    await rig.broker.pause("q", None)
    assert taken(await take(rig)) == ids(tasks)


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_closed_limit_opens_at_its_time(rig: Rig, key: str | None) -> None:
    tasks = await pushed(rig, 1, slots(5, key="k"))
    await rig.broker.gates.close("slots", key, rig.clock.time() + 30, ME)
    assert await take(rig) == []
    await rig.worker()
    next_due = (await rig.step()).next_due
    assert next_due is not None
    assert next_due == pytest.approx(30, abs=1)
    rig.clock.advance(31)
    assert taken(await take(rig)) == ids(tasks)


async def test_closing_one_key_leaves_the_others(rig: Rig) -> None:
    await pushed(rig, 1, slots(5, key="a"))
    (b,) = await pushed(rig, 1, slots(5, key="b"))
    await rig.broker.gates.close("slots", "a", None, ME)
    assert taken(await take(rig)) == [b.id]


@pytest.mark.parametrize("key", [None, ""])
async def test_a_limit_closed_without_end_waits_until_it_is_opened(
    rig: Rig, key: str | None
) -> None:
    tasks = await pushed(rig, 1, per_second(10))
    await rig.broker.gates.close("rate", key, None, ME)
    assert await take(rig) == []
    rig.clock.advance(1e6)
    assert await take(rig) == []
    (info, *_) = [i for i in await rig.broker.gates.look("rate") if i.pause is not None]
    assert info.pause == ME
    await rig.broker.gates.open("rate", key)
    assert taken(await take(rig)) == ids(tasks)


async def test_a_tuned_limit_overrides_what_tasks_carry(rig: Rig) -> None:
    await pushed(rig, 5, slots(1))
    assert len(await take(rig)) == 1
    assert await take(rig) == []
    await rig.broker.gates.tune("slots", most=3)
    assert len(await take(rig)) == 2
    await rig.broker.gates.tune("slots")
    assert await take(rig) == []


async def test_a_tuned_rate(rig: Rig) -> None:
    await pushed(rig, 3, per_second(0.001))
    assert len(await take(rig)) == 1
    assert await take(rig) == []
    await rig.broker.gates.tune("rate", rate=1000.0)
    rig.clock.advance(1001)
    assert len(await take(rig)) == 1


async def test_a_reservation_draws_from_the_same_bucket(rig: Rig) -> None:
    gate = per_second(10, burst=1)
    assert await rig.broker.gates.reserve(gate) == pytest.approx(0.0, abs=1e-6)
    assert await rig.broker.gates.reserve(gate) == pytest.approx(0.1, abs=1e-3)
    tasks = await pushed(rig, 1, gate)
    assert await take(rig) == []
    rig.clock.advance(0.21)
    assert taken(await take(rig)) == ids(tasks)


async def test_a_reservation_waits_for_a_closed_limit(rig: Rig) -> None:
    await rig.broker.gates.close("rate", "", rig.clock.time() + 7, ME)
    assert await rig.broker.gates.reserve(per_second(10)) == pytest.approx(7.0, abs=1e-3)


async def test_standing_tells_the_rank_and_the_gates(rig: Rig) -> None:
    tasks = await pushed(rig, 4, slots(1))
    (lease,) = await take(rig)
    standing = await rig.broker.gates.standing([tasks[3].id, lease.task.id])
    assert set(standing) == {tasks[3].id}
    found = standing[tasks[3].id]
    assert found.ahead == 2
    assert found.gates[0].state.running == 1
    assert found.gates[0].holders == (lease.task.id,)


async def test_standing_of_a_plain_task(rig: Rig) -> None:
    plain = [await rig.pushed() for _ in range(3)]
    high = await rig.pushed(priority=9)
    standing = await rig.broker.gates.standing([plain[2].id, high.id])
    assert (standing[plain[2].id].ahead, standing[high.id].ahead) == (3, 0)
    assert standing[high.id].gates == ()


async def test_a_hundred_lanes(rig: Rig) -> None:
    tasks = [gated(rig, slots(1, key=str(n % 100)), fair=str(n % 100)) for n in range(300)]
    await rig.push(*tasks)
    seen: list[str] = []
    for _ in range(3):
        leases = await take(rig, want=200)
        assert len(leases) == 100
        seen += taken(leases)
        await rig.step(*(rig.settlement(lease, ok()) for lease in leases), want=0)
    assert sorted(seen) == sorted(ids(tasks))
    assert await take(rig) == []
    assert await rig.is_healthy()


async def test_idle_gates_are_forgotten(rig: Rig) -> None:
    await pushed(rig, 2, slots(1, key="x"), per_second(10, key="x"))
    for _ in range(2):
        rig.clock.advance(1)
        for lease in await take(rig):
            await rig.settle(lease, ok())
    rig.clock.advance(3600)
    await rig.broker.tidy()
    assert await rig.broker.gates.look() == []


async def test_another_broker_sees_the_same_limits(rig: Rig) -> None:
    other = await rig.another()
    await pushed(rig, 3, slots(2))
    assert len(await take(rig)) == 2
    await other.renew(["v"], 15)
    assert not (await other.step(Step("v", ("q",), 10))).leases
