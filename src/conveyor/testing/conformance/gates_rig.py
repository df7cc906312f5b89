"""Short words for the tests of limits, turns and uniqueness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.brokers.base import Step
from conveyor.core.gates import Gate, lane_of
from conveyor.core.task import Fair, Lease, Pause, Task, Terms
from conveyor.testing.conformance.rig import Rig

ME = Pause("maintenance", "ada", 0.0)


def slots(most: int = 1, key: str = "", **fields: Any) -> Gate:
    """Return a gate of so many slots."""
    return Gate("slots", key, most=most, **fields)


def per_second(rate: float, burst: float = 1.0, key: str = "", **fields: Any) -> Gate:
    """Return a rate gate."""
    return Gate("rate", key, rate=rate, burst=burst, **fields)


def gated(rig: Rig, *gates: Gate, fair: str | None = None, weight: int = 1, **fields: Any) -> Task:
    """Make a task with gates."""
    turn = None if fair is None else Fair(fair, weight)
    lane = lane_of(fields.get("priority", 5), gates, fair)
    return rig.task(terms=Terms(gates, turn, lane), **fields)


async def pushed(rig: Rig, number: int, *gates: Gate, **fields: Any) -> list[Task]:
    """Push so many tasks of one lane."""
    tasks = [gated(rig, *gates, **fields) for _ in range(number)]
    await rig.push(*tasks)
    return tasks


async def take(rig: Rig, want: int = 10, slots: int | None = None) -> list[Lease]:
    """Renew the worker and lease what there is."""
    await rig.worker()
    reply = await rig.broker.step(Step("w", ("q",), want, (), slots))
    return list(reply.leases)


def taken(leases: Sequence[Lease]) -> list[str]:
    return [lease.task.id for lease in leases]


def line(key: str = "k") -> Gate:
    """Return the gate of a partition key."""
    return Gate("line", key, most=1, line=True)


async def take_as(rig: Rig, worker: str) -> list[Lease]:
    await rig.worker(worker)
    return list((await rig.broker.step(Step(worker, ("q",), 10))).leases)
