"""The order in which leases of a worker start."""

from __future__ import annotations

import asyncio

from conveyor.core.gates import SLACK, Gate
from conveyor.core.task import Lease, Task, Terms
from conveyor.worker.gathering import gather
from conveyor.worker.prefetch import GATED_AHEAD, GATED_TURNS, Prefetch
from conveyor.worker.waiting import Waiting


def lease(name: str, *, gated: bool = False) -> Lease:
    terms = Terms(lane="x") if gated else None
    return Lease(Task(name, name, "q", 5, b"", 0.0, terms=terms), 1)


def filled() -> Waiting:
    waiting = Waiting()
    for number, (name, gated) in enumerate([("a", False), ("g", True), ("b", False), ("h", True)]):
        waiting.add(lease(name, gated=gated), float(number))
    return waiting


def names(leases: list[Lease]) -> str:
    return "".join(lease.task.id for lease in leases)


def test_gated_tasks_go_first_and_each_kind_in_its_order() -> None:
    waiting = filled()
    assert len(waiting) == 4
    assert names([waiting.next() for _ in range(4)]) == "ghab"
    assert not waiting


def test_some_are_taken_and_the_others_stay_in_order() -> None:
    waiting = filled()
    assert names(waiting.take(["a", "h", "unknown"])) == "ha"
    assert names(list(waiting)) == "gb"


def test_all_are_taken() -> None:
    waiting = filled()
    assert names(waiting.clear()) == "ghab"
    assert not waiting


def test_the_overdue_are_taken_with_their_time() -> None:
    waiting = filled()
    assert [(entry.task.id, since) for entry, since in waiting.overdue(2.0)] == [
        ("g", 1.0),
        ("a", 0.0),
    ]
    assert names(list(waiting)) == "hb"


def test_whoever_has_an_old_token_goes_back() -> None:
    waiting = filled()
    for name, gate in (("r", Gate("rate", rate=50.0)), ("s", Gate("slots", most=3))):
        task = Task(name, name, "q", 5, b"", 0.0, terms=Terms((gate,), None, "x"))
        waiting.add(Lease(task, 1), 10.0)
    assert waiting.late(10.0 + SLACK) == []
    assert names(waiting.late(10.01 + SLACK)) == "r"
    assert names(list(waiting)) == "ghsab"


def test_both_kinds_are_counted() -> None:
    assert (filled().gated, filled().plain) == (2, 2)


def leased(*, gated: int = 0, plain: int = 0) -> Waiting:
    waiting = Waiting()
    for number in range(gated + plain):
        waiting.add(lease(str(number), gated=number < gated), 0.0)
    return waiting


def test_gated_tasks_are_leased_for_free_slots() -> None:
    prefetch = Prefetch(3)
    assert prefetch.want_gated(0, leased()) == 3
    assert prefetch.want_gated(1, leased(gated=1)) == 1
    assert prefetch.want_gated(3, leased()) == 0


def test_short_gated_tasks_are_leased_a_moment_ahead() -> None:
    prefetch = Prefetch(10)
    prefetch.ended(0.001)
    assert prefetch.want_gated(10, leased()) == 10 * GATED_TURNS
    prefetch.ended(0.03)
    assert prefetch.want_gated(10, leased()) == int(10 * GATED_AHEAD / 0.03)
    prefetch.ended(1.0)
    assert prefetch.want_gated(10, leased()) == 0


def test_half_of_the_gated_tasks_are_through_when_as_many_may_come_as_are_here() -> None:
    prefetch = Prefetch(10)
    prefetch.ended(0.001)
    room = 10 * (1 + GATED_TURNS)
    assert not prefetch.is_half_through(10, leased(gated=room // 2 - 9))
    assert prefetch.is_half_through(10, leased(gated=room // 2 - 10))
    assert prefetch.is_half_through(0, leased())


async def test_settlements_gather_until_it_is_enough_or_for_a_moment() -> None:
    signal, ended = asyncio.Event(), [False, True]
    gathering = asyncio.create_task(gather(signal, lambda: ended.pop(0)))
    await asyncio.sleep(0)
    signal.set()
    await gathering
    assert ended == []
    await gather(signal, lambda: False)
    await gather(signal, None)


def test_while_plain_tasks_fill_every_slot_one_gated_task_goes_before_them() -> None:
    prefetch = Prefetch(3)
    assert prefetch.want_gated(3, leased(plain=5)) == 1
    assert prefetch.want_gated(3, leased(gated=1, plain=5)) == 0
