"""Strikes as a store keeps them: a document each, and a tally of the tasks it holds back."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

import msgspec

from conveyor.core.errors import TaskNotFound
from conveyor.core.strike import Strike

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

_KIND = "strike"
_BATCH = 1_000
HEARD_WITHIN = 1.2
"""Seconds until every worker has heard of a strike or its end: they look once a second."""
KEPT = 86_400.0
"""Seconds that a strike is shown after its end."""
_decode = msgspec.msgpack.Decoder(Strike).decode


def held_by(strike_id: str) -> str:
    """Return the tally of the tasks that a strike holds back."""
    return f"strike {strike_id}"


async def put_strike(broker: Broker, strike: Strike) -> Strike:
    """Store a new strike; returns the one that there is under its id now."""
    if not await broker.documents.put(_KIND, strike.id, msgspec.msgpack.encode(strike), 0):
        found = await broker.documents.get(_KIND, [strike.id])
        return _decode(found[strike.id].body) if found else strike
    return strike


async def list_strikes(broker: Broker) -> list[Strike]:
    """Return the strikes of a store, the oldest first."""
    found: list[Strike] = []
    while True:
        after = found[-1].id if found else ""
        page = await broker.documents.list(_KIND, after, _BATCH)
        found += [_decode(document.body) for document in page]
        if len(page) < _BATCH:
            return found


async def forget_strikes(broker: Broker, now: float) -> int:
    """Delete strikes that were over a day ago, with their tallies; returns how many."""
    over = [one for one in await list_strikes(broker) if (one.until or inf) < now - KEPT]
    for strike in over:
        await broker.documents.delete(_KIND, strike.id)
    if over:
        await broker.tallies.drop([held_by(strike.id) for strike in over])
    return len(over)


async def lift_strike(broker: Broker, strike_id: str) -> int | None:
    """Delete a strike and requeue what it holds back; returns how many, None when there is no such
    strike. Takes a second: workers that have not heard of it yet would hold the tasks back again.
    Killed in between, lifting it again goes on with those that still wait.
    """
    existed = await broker.documents.delete(_KIND, strike_id)
    if existed:
        await asyncio.sleep(HEARD_WITHIN)
    held = await broker.tallies.members(held_by(strike_id))
    if not existed and not held:
        return None
    freed = 0
    for start in range(0, len(held), _BATCH):
        freed += len(await broker.requeue(await _alive(broker, held[start : start + _BATCH])))
    await broker.tallies.drop([held_by(strike_id)])
    return freed


async def _alive(broker: Broker, ids: list[str]) -> list[str]:
    """Leave out what has ended meanwhile: a requeue would revive it."""
    while ids:
        try:
            ended = await broker.finals(ids)
        except TaskNotFound as exc:
            ids = [task_id for task_id in ids if task_id != exc.task_id]
        else:
            return [task_id for task_id in ids if task_id not in ended]
    return ids
