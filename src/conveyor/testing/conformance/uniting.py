"""Uniqueness (`unique=`), replacement and debounce."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor.brokers.base import Pushed
from conveyor.core.gates import lane_of
from conveyor.core.outcome import Snoozed
from conveyor.core.task import State, Task, Terms, Unique
from conveyor.testing.conformance.gates_rig import take, taken
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


def unique(
    rig: Rig, until: str = "done", *, key: str = "u", on_conflict: str = "return", **fields: Any
) -> Task:
    """Make a task that holds a key."""
    rule = Unique(
        key,
        until,
        fields.pop("seconds", 0.0),
        on_conflict,
        fields.pop("debounce", False),
        fields.pop("longest", 0.0),
    )
    lane = lane_of(fields.get("priority", 5), (), None) if until in {"start", "queued"} else ""
    return rig.task(terms=Terms(lane=lane, unique=rule), **fields)


async def is_free(rig: Rig, until: str, **fields: Any) -> bool:
    """Whether one more task with that key would be stored; it is taken away again."""
    probe = unique(rig, until, **fields)
    (answer,) = await rig.push(probe)
    if answer.created:
        await rig.broker.cancel([probe.id])
        await rig.broker.discard([probe.id])
    return answer.created


@pytest.mark.parametrize("until", ["queued", "start", "done", "period"])
async def test_a_second_task_names_the_first(rig: Rig, until: str) -> None:
    first, second = unique(rig, until, seconds=60), unique(rig, until, seconds=60, args=["other"])
    assert await rig.push(first, second) == [Pushed(first.id), Pushed(first.id, created=False)]
    assert await rig.push(first) == [Pushed(first.id)]
    assert await rig.counts() == {State.QUEUED: 1}


async def test_other_keys_names_and_queues_do_not_meet(rig: Rig) -> None:
    tasks = [
        unique(rig),
        unique(rig, key="v"),
        unique(rig, name="other"),
        unique(rig, queue="r"),
        rig.task(key="u"),
    ]
    assert await rig.push(*tasks) == [Pushed(task.id) for task in tasks]


@pytest.mark.parametrize(
    ("until", "running", "retrying", "done"),
    [
        ("queued", True, False, True),
        ("start", True, True, True),
        ("done", False, False, True),
        ("period", False, False, False),
    ],
)
async def test_a_key_is_held_for_as_long_as_the_rule_says(
    rig: Rig, until: str, running: bool, retrying: bool, done: bool
) -> None:
    await rig.push(unique(rig, until, seconds=60))
    assert not await is_free(rig, until, seconds=60)
    (lease,) = await take(rig)
    assert await is_free(rig, until, seconds=60) is running
    await rig.settle(lease, failure(delay=5))
    assert await is_free(rig, until, seconds=60) is retrying
    rig.clock.advance(6)
    (again,) = await take(rig)
    await rig.settle(again, ok())
    assert await is_free(rig, until, seconds=60) is done
    rig.clock.advance(60)
    assert await is_free(rig, until, seconds=60)
    assert await rig.is_healthy()


@pytest.mark.parametrize("until", ["queued", "start", "done"])
@pytest.mark.parametrize("end", ["cancelled", "failed"])
async def test_the_end_frees_the_key_at_once(rig: Rig, until: str, end: str) -> None:
    task = unique(rig, until)
    await rig.push(task)
    if end == "cancelled":
        await rig.broker.cancel([task.id])
    else:
        await rig.settle((await take(rig))[0], failure(final=True))
    assert await is_free(rig, until)


async def test_a_retry_never_collides_with_itself_or_with_others(rig: Rig) -> None:
    first = unique(rig, "queued")
    await rig.push(first)
    (lease,) = await take(rig)
    second = unique(rig, "queued")
    assert await rig.push(second) == [Pushed(second.id)]
    # The key has another holder by now: the retry waits all the same.
    await rig.settle(lease, Snoozed(5))
    assert await rig.push(unique(rig, "queued")) == [Pushed(second.id, created=False)]
    rig.clock.advance(6)
    assert set(taken(await take(rig))) == {first.id, second.id}
    assert await rig.is_healthy()


async def test_a_conflict_may_be_an_error(rig: Rig) -> None:
    first, second = unique(rig, on_conflict="raise"), unique(rig, on_conflict="raise")
    assert await rig.push(first, second) == [
        Pushed(first.id),
        Pushed(first.id, created=False, conflict=True),
    ]


@pytest.mark.parametrize("delay", [None, 60.0])
async def test_a_waiting_task_may_be_replaced(rig: Rig, delay: float | None) -> None:
    first = unique(rig, on_conflict="replace", args=[1])
    await rig.push(first, delay=delay)
    second = unique(rig, on_conflict="replace", args=[2])
    assert await rig.push(second) == [Pushed(second.id)]
    info = await rig.info(first)
    assert info.state is State.CANCELLED
    assert second.id in (info.reason or "")
    assert taken(await take(rig)) == [second.id]
    assert await rig.is_healthy()


async def test_a_running_task_is_not_replaced(rig: Rig) -> None:
    first = unique(rig, on_conflict="replace")
    await rig.push(first)
    await take(rig)
    assert await rig.push(unique(rig, on_conflict="replace")) == [Pushed(first.id, created=False)]


def debounced(rig: Rig, *args: Any, keep: str = "last", longest: float = 12.0) -> Task:
    """Make a task that waits for 5 s of silence, and for no more than 12 s."""
    conflict = {"last": "replace", "first": "return"}[keep]
    return unique(
        rig, "queued", on_conflict=conflict, seconds=5.0, debounce=True, longest=longest, args=args
    )


async def push_apart(rig: Rig, *tasks: Task) -> list[Pushed]:
    """Push tasks, 3 s after each of them."""
    answers = []
    for task in tasks:
        answers += await rig.push(task, delay=5)
        rig.clock.advance(3)
    return answers


async def test_debounce_runs_once_after_silence_with_the_last_arguments(rig: Rig) -> None:
    tasks = [debounced(rig, n) for n in range(3)]
    await push_apart(rig, *tasks)
    assert await take(rig) == []
    rig.clock.advance(2.1)
    assert taken(await take(rig)) == [tasks[2].id]
    assert await rig.state(tasks[0]) is State.CANCELLED


async def test_debounce_may_keep_the_first_arguments(rig: Rig) -> None:
    first, *others = tasks = [debounced(rig, n, keep="first") for n in range(3)]
    answers = await push_apart(rig, *tasks)
    assert answers == [Pushed(first.id)] + [Pushed(first.id, created=False) for _ in others]
    assert await rig.counts() == {State.SCHEDULED: 1}
    assert await take(rig) == []  # 9 s after it was pushed, 3 s after the last enqueue
    assert await rig.is_healthy()
    rig.clock.advance(2.1)
    assert taken(await take(rig)) == [first.id]


async def test_debounce_with_the_first_arguments_has_an_end(rig: Rig) -> None:
    first, *_ = tasks = [debounced(rig, n, keep="first") for n in range(4)]
    answers = await push_apart(rig, *tasks)
    # 12 s after the first push, 3 s after the last one: the longest wait is over.
    assert {answer.id for answer in answers} == {first.id}
    assert taken(await take(rig)) == [first.id]
    fresh = debounced(rig, 4, keep="first")
    assert await rig.push(fresh, delay=5) == [Pushed(fresh.id)]
    assert await rig.is_healthy()


async def test_a_task_that_is_due_is_not_put_off_again(rig: Rig) -> None:
    first = debounced(rig, 1, keep="first")
    await rig.push(first, delay=5)
    rig.clock.advance(6)
    again = debounced(rig, 2, keep="first")
    assert await rig.push(again, delay=5) == [Pushed(first.id, created=False)]
    assert taken(await take(rig)) == [first.id]
    assert await rig.is_healthy()


@pytest.mark.parametrize("keep", ["last", "first"])
async def test_debounce_without_an_end_waits_for_silence(rig: Rig, keep: str) -> None:
    tasks = [debounced(rig, n, keep=keep, longest=0.0) for n in range(8)]
    await push_apart(rig, *tasks)
    assert await take(rig) == []
    rig.clock.advance(2.1)
    assert taken(await take(rig)) == [tasks[0 if keep == "first" else -1].id]


async def test_debounce_has_an_end(rig: Rig) -> None:
    pushed = []
    for n in range(5):
        pushed.append(debounced(rig, n))
        await rig.push(pushed[-1], delay=5)
        rig.clock.advance(3)
    # 15 s after the first push, 3 s after the last one: the longest wait is over.
    (lease,) = await take(rig)
    assert lease.task.id in ids(pushed[3:])
    assert (await rig.counts()).get(State.SCHEDULED, 0) <= 1


async def test_a_debounced_task_that_ran_begins_a_new_series(rig: Rig) -> None:
    await rig.push(debounced(rig, 1), delay=5)
    rig.clock.advance(6)
    (lease,) = await take(rig)
    fresh = debounced(rig, 2)
    assert await rig.push(
        fresh,
    ) == [Pushed(fresh.id)]
    await rig.settle(lease, ok())
    assert await rig.is_healthy()


async def test_a_revived_task_takes_its_key_back_if_it_is_free(rig: Rig) -> None:
    first = unique(rig)
    await rig.push(first)
    await rig.broker.cancel([first.id])
    assert await rig.broker.requeue([first.id]) == [first.id]
    assert await rig.push(unique(rig)) == [Pushed(first.id, created=False)]
    await rig.broker.cancel([first.id])
    second = unique(rig)
    await rig.push(second)
    assert await rig.broker.requeue([first.id]) == [first.id]
    assert await rig.push(unique(rig)) == [Pushed(second.id, created=False)]
    assert await rig.is_healthy()


async def test_pushing_many_with_one_key_stores_one(rig: Rig) -> None:
    tasks = [unique(rig) for _ in range(20)]
    answers = await rig.push(*tasks)
    assert [answer.created for answer in answers] == [True] + [False] * 19
    assert {answer.id for answer in answers} == {tasks[0].id}
