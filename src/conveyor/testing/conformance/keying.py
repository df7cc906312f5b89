"""Idempotency keys (D3): at most one task per queue, name and key until a day after its end."""

from __future__ import annotations

import pytest

from conveyor.brokers.base import RETENTION_SECONDS, Pushed
from conveyor.core.task import State
from conveyor.testing.conformance.rig import Rig, failure, ok


async def test_the_same_key_names_the_first_task(rig: Rig) -> None:
    first = await rig.pushed(key="k")
    for _ in range(2):
        assert await rig.push(rig.task(key="k")) == [Pushed(first.id, created=False)]
    assert await rig.counts() == {State.QUEUED: 1}


async def test_other_arguments_under_the_same_key_are_a_conflict(rig: Rig) -> None:
    first = await rig.pushed(key="k", args=[1])
    answer = await rig.push(rig.task(key="k", args=[2]))
    assert answer == [Pushed(first.id, created=False, conflict=True)]
    assert (await rig.lease()).task == first
    assert await rig.counts() == {State.RUNNING: 1}


async def test_conflicts_do_not_keep_the_others_out(rig: Rig) -> None:
    first = await rig.pushed(key="k", args=[1])
    good, other = rig.task(), rig.task(key="k2")
    answers = await rig.push(good, rig.task(key="k", args=[2]), other, rig.task(key="k", args=[1]))
    assert answers == [
        Pushed(good.id),
        Pushed(first.id, created=False, conflict=True),
        Pushed(other.id),
        Pushed(first.id, created=False),
    ]
    assert await rig.counts() == {State.QUEUED: 3}


async def test_a_key_twice_in_one_push_is_one_task(rig: Rig) -> None:
    first, second, third = rig.task(key="k"), rig.task(key="k"), rig.task(key="k", args=["x"])
    assert await rig.push(first, second, third) == [
        Pushed(first.id),
        Pushed(first.id, created=False),
        Pushed(first.id, created=False, conflict=True),
    ]
    assert await rig.waiting_ids() == [first.id]


async def test_a_repeated_push_of_a_keyed_task_answers_as_the_first_did(rig: Rig) -> None:
    """D2: same id, not just same key: the producer whose reply was lost created it."""
    task = await rig.pushed(key="k")
    assert await rig.push(task) == [Pushed(task.id, created=True)]
    assert await rig.counts() == {State.QUEUED: 1}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"queue": "q"}, {"queue": "other"}),
        ({"name": "a"}, {"name": "b"}),
        ({"key": "k"}, {"key": "K"}),
        ({"key": "k"}, {"key": "k "}),
        ({"name": "a", "key": "b:c"}, {"name": "a:b", "key": "c"}),
        ({"queue": "a", "name": "b:c"}, {"queue": "a:b", "name": "c"}),
        ({"name": "a", "key": "b\nc"}, {"name": "a\nb", "key": "c"}),
        ({"name": "a", "key": "b/c"}, {"name": "a/b", "key": "c"}),
        ({"name": "a", "key": "b|c"}, {"name": "a|b", "key": "c"}),
        ({"key": ""}, {"key": " "}),
        ({"key": "é"}, {"key": "e\u0301"}),
        ({"key": "'; DROP TABLE x"}, {"key": '"; return 1 --'}),
        ({"key": "x" * 255}, {"key": "x" * 254 + "y"}),
    ],
    ids=str,
)
async def test_different_triples_are_different_keys(
    rig: Rig, one: dict[str, str], two: dict[str, str]
) -> None:
    first = rig.task(**{"key": "k", **one})
    second = rig.task(**{"key": "k", **two})
    assert await rig.push(first, second) == [Pushed(first.id), Pushed(second.id)]
    for task, fields in ((first, one), (second, two)):
        repeat = rig.task(**{"key": "k", **fields})
        assert await rig.push(repeat) == [Pushed(task.id, created=False)]


@pytest.mark.parametrize("end", ["scheduled", "running", "succeeded", "failed", "cancelled"])
async def test_a_key_is_held_in_every_state(rig: Rig, end: str) -> None:
    task = await rig.pushed(key="k", delay=60 if end == "scheduled" else None)
    if end == "cancelled":
        await rig.broker.cancel([task.id])
    elif end != "scheduled":
        lease = await rig.lease()
        if end != "running":
            await rig.settle(lease, ok() if end == "succeeded" else failure(final=True))
    assert (await rig.state(task)).value == end
    assert await rig.push(rig.task(key="k")) == [Pushed(task.id, created=False)]


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
async def test_a_key_is_free_a_day_after_the_end(rig: Rig, end: str) -> None:
    task = await rig.pushed(key="k")
    if end == "cancelled":
        await rig.broker.cancel([task.id])
    else:
        await rig.settle(await rig.lease(), ok() if end == "succeeded" else failure(final=True))
    rig.clock.advance(RETENTION_SECONDS - 60)
    await rig.broker.tidy()
    assert await rig.push(rig.task(key="k")) == [Pushed(task.id, created=False)]
    rig.clock.advance(120)
    await rig.broker.tidy()
    fresh = rig.task(key="k", args=["other"])
    assert await rig.push(fresh) == [Pushed(fresh.id)]
    assert await rig.is_healthy()


async def test_a_living_task_holds_its_key_for_as_long_as_it_takes(rig: Rig) -> None:
    waiting, scheduled = await rig.pushed(key="a"), await rig.pushed(key="b", delay=1e7)
    rig.clock.advance(5 * RETENTION_SECONDS)
    await rig.broker.tidy()
    assert await rig.push(rig.task(key="a"), rig.task(key="b")) == [
        Pushed(waiting.id, created=False),
        Pushed(scheduled.id, created=False),
    ]
