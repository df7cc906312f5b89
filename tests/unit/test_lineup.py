"""Whose turn it is among a worker's queues, and which slots are kept free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from conveyor.brokers.base import Broker, Step, StepReply
from conveyor.core.task import Lease, Task
from conveyor.worker.lineup import Lineup


def firsts(lineup: Lineup, queues: list[str], turns: int) -> list[str]:
    found = []
    for _ in range(turns):
        lineup.turn(queues)
        found.append(queues[0])
    return found


def test_without_weights_queues_take_turns() -> None:
    assert firsts(Lineup({}, {}), ["a", "b", "c"], 6) == ["b", "c", "a", "b", "c", "a"]
    assert firsts(Lineup({}, {}), ["a"], 2) == ["a", "a"]


def test_weights_say_how_often_a_queue_is_first() -> None:
    found = firsts(Lineup({"a": 3}, {}), ["a", "b", "c"], 50)
    assert Counter(found) == {"a": 30, "b": 10, "c": 10}
    assert all(len(set(found[at : at + 5])) == 3 for at in range(0, 50, 5))


class Backlog:
    """Always has as many tasks as are wanted, in the first queue asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], int]] = []

    async def step(self, step: Step) -> StepReply:
        self.asked.append((tuple(step.queues), step.want))
        queue = step.queues[0]
        if queue == "empty":
            return StepReply(next_due=3.0)
        return StepReply([lease(queue) for _ in range(step.want)], next_due=5.0)


def lease(queue: str) -> Lease:
    return Lease(Task(queue, queue, queue, 5, b"", 0.0), 1)


async def beat(
    reserved: dict[str, int], queues: Sequence[str], want: int, held: Sequence[str] = ()
) -> tuple[Backlog, StepReply]:
    backlog = Backlog()
    step = Step("w", queues, want)
    reply = await Lineup({}, reserved).step(cast("Broker", cast("Any", backlog)), step, held)
    return backlog, reply


async def test_without_reserved_slots_a_step_is_a_step() -> None:
    backlog, _ = await beat({}, ["a", "b"], 4)
    assert backlog.asked == [(("a", "b"), 4)]


async def test_reserved_slots_are_left_free_for_their_queue() -> None:
    backlog, reply = await beat({"empty": 2}, ["a", "empty"], 8)
    assert backlog.asked == [(("empty",), 8), (("a",), 6)]
    assert len(reply.leases) == 6
    assert reply.next_due == 3.0


async def test_slots_in_use_by_their_queue_are_not_kept_twice() -> None:
    backlog, _ = await beat({"empty": 2}, ["a", "empty"], 8, ["empty", "empty"])
    assert backlog.asked[1] == (("a",), 8)


async def test_nothing_is_left_for_others_when_only_reserved_slots_are_free() -> None:
    backlog, _ = await beat({"empty": 2}, ["a", "empty"], 2)
    assert backlog.asked == [(("empty",), 2)]
