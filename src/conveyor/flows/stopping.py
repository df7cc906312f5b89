"""Cancelling tasks of nodes, also those that somebody may be about to push."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.task import NewTask, State

_PER_CALL = 1_000


async def cancelled(
    broker: Broker, placeholders: Mapping[str, NewTask], reason: str
) -> dict[str, State]:
    """Cancel the tasks of these ids and return their states. One that is not there yet is made now,
    from its placeholder: so whoever was about to push it does nothing, and it is cancelled before
    anyone can run it.
    """
    ids, states = list(placeholders), dict[str, "State"]()
    for start in range(0, len(ids), _PER_CALL):
        page = ids[start : start + _PER_CALL]
        found = await broker.cancel(page, by="workflow", reason=reason)
        absent = [task_id for task_id in page if task_id not in found]
        if absent:
            await broker.push([placeholders[task_id] for task_id in absent])
            found |= await broker.cancel(absent, by="workflow", reason=reason)
        states |= found
    return states
