"""Delays: a task stays in the store until it is due, then it is promoted (D10)."""

from __future__ import annotations

import pytest

from conveyor.core.task import State
from conveyor.testing.conformance.rig import Rig, failure, ids


async def test_a_step_promotes_what_is_due_and_leases_it(rig: Rig) -> None:
    task = await rig.pushed(delay=30)
    rig.clock.advance(29)
    assert await rig.waiting_ids() == []
    rig.clock.advance(1.5)
    assert await rig.waiting_ids() == [task.id]


async def test_tidy_promotes_what_is_due(rig: Rig) -> None:
    task, later = await rig.pushed(delay=30, queue="unserved"), await rig.pushed(delay=90)
    assert (await rig.broker.tidy()).promoted == 0
    rig.clock.advance(31)
    assert (await rig.broker.tidy()).promoted == 1
    assert (await rig.broker.tidy()).promoted == 0
    assert await rig.state(task) is State.QUEUED
    assert await rig.state(later) is State.SCHEDULED


async def test_promotion_keeps_the_priority(rig: Rig) -> None:
    low = await rig.pushed(delay=10, priority=2)
    high = await rig.pushed(delay=10, priority=9)
    rig.clock.advance(11)
    assert await rig.waiting_ids() == [high.id, low.id]


async def test_more_than_a_thousand_can_become_due_at_once(rig: Rig) -> None:
    tasks = [rig.task() for _ in range(1_200)]
    await rig.push(*tasks, delay=10)
    rig.clock.advance(11)
    leased: list[str] = []
    for _ in range(10):
        leased += await rig.waiting_ids(want=500)
    assert sorted(leased) == sorted(ids(tasks))


async def test_a_retry_waits_its_backoff(rig: Rig) -> None:
    await rig.pushed(retry_base=8.0)
    await rig.settle(await rig.lease(), failure(), dice=0.5)
    rig.clock.advance(3.5)
    assert await rig.waiting_ids() == []
    rig.clock.advance(1)
    assert (await rig.lease()).attempt == 2


async def test_a_step_says_when_the_next_task_is_due(rig: Rig) -> None:
    await rig.worker()
    assert (await rig.step()).next_due is None
    await rig.pushed(delay=40)
    await rig.pushed(delay=7, queue="other")
    assert (await rig.step()).next_due == pytest.approx(40, abs=1)
    both = await rig.step(queues=["q", "other"])
    assert both.next_due == pytest.approx(7, abs=1)


async def test_a_task_due_next_year_stays_until_then(rig: Rig) -> None:
    task = await rig.pushed(delay=365 * 86_400.0)
    rig.clock.advance(364 * 86_400.0)
    await rig.broker.tidy()
    assert await rig.state(task) is State.SCHEDULED
    rig.clock.advance(2 * 86_400.0)
    assert await rig.waiting_ids() == [task.id]


async def test_a_clock_set_forward_makes_tasks_due(rig: Rig) -> None:
    task = await rig.pushed(delay=3_600)
    rig.clock.jump(3_700)
    assert await rig.waiting_ids() == [task.id]


async def test_without_a_given_clock_the_stores_own_one_counts(rig: Rig) -> None:
    """The leader is told the broker's time: it moves by itself and is not the test's."""
    broker = await rig.another(given_clock=False)
    first = await broker.lead("keeper", "me", 10)
    second = await broker.lead("keeper", "me", 10)
    assert first is not None
    assert second is not None
    assert first <= second < first + 10
    assert abs(rig.clock.time() - first) > 86_400
