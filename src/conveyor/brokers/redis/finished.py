"""Finished tasks, many at a time: what a history is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conveyor.brokers.base import FinishedTask
from conveyor.brokers.redis.describing import Sight
from conveyor.brokers.redis.records import pack_known, read_ending
from conveyor.brokers.redis.server import Command
from conveyor.brokers.redis.store import Store

_PER_CALL = 250
"""Ids a script reads at a time: others are served between."""
_Seen = tuple[float, str, bytes, bytes]
"""Now (epoch seconds), letter, task, ending."""


async def finished(
    store: Store, ids: Sequence[str], homes: Mapping[str, str]
) -> list[FinishedTask]:
    """Return those of these tasks that are final, with their executions and results."""
    rows: list[_Seen] = []
    elsewhere: list[str] = []
    by_queue: dict[str, list[str]] = {}
    for task_id in dict.fromkeys(ids):
        if task_id in homes:
            by_queue.setdefault(homes[task_id], []).append(task_id)
        else:
            elsewhere.append(task_id)
    commands = [
        command for home, mine in by_queue.items() for command in _asking(store, home, mine)
    ]
    for reply in await store.ask(*commands):
        rows += _read(reply).values()
    if elsewhere:
        found = await store.find("finished", elsewhere, _read)
        rows += [seen for _, seen in found.values()]
    return [_finished(*row) for row in rows]


def _asking(store: Store, queue: str, ids: list[str]) -> list[Command]:
    packed = list(pack_known(ids))
    return [
        store.on_queue("finished", queue, b"".join(packed[start : start + _PER_CALL]))
        for start in range(0, len(packed), _PER_CALL)
    ]


def _read(reply: list[Any]) -> dict[int, _Seen]:
    now, flat = reply
    return {
        place: (int(now) / 1000, letter.decode(), task, ending)
        for place, letter, task, ending in zip(*[iter(flat)] * 4, strict=True)
    }


def _finished(now: float, letter: str, task: bytes, stored: bytes) -> FinishedTask:
    sight = Sight([letter.encode(), task, stored, b"", b"", b"", []])
    if letter != "s":
        return FinishedTask(sight.info(sight.executions))
    finished_at, ending = read_ending(stored)
    result = None if now >= finished_at + ending.result_ttl else ending.result
    return FinishedTask(sight.info(sight.executions), result)
