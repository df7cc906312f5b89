"""Look at queues, stop them and let them go on."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from conveyor import Conveyor
from conveyor.inspect import Pause, QueueInfo
from conveyor.limits import stated
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.listing import Listing
from conveyor_console.kit.problems import Problem
from conveyor_console.queues.schemas import LimitOfQueue


def _read(info: QueueInfo, attribute: str) -> Any:
    if attribute == "paused":
        return "no" if info.pause is None else "yes"
    if attribute == "began":  # the same at every page, while the wait itself grows
        return None if info.waits_since is None else -info.waits_since
    return getattr(info, attribute)


LISTING: Listing[QueueInfo] = Listing(
    fields={
        "queue": Field(Kind.TEXT, "name"),
        "paused": Field(Kind.CHOICE, "paused", ("yes", "no")),
        "queued": Field(Kind.NUMBER, "queued"),
        "scheduled": Field(Kind.NUMBER, "scheduled"),
        "running": Field(Kind.NUMBER, "running"),
        "parked": Field(Kind.NUMBER, "parked"),
        "wait": Field(Kind.SECONDS, "oldest_wait"),
        FREE: Field(Kind.WORDS, "name"),
    },
    keys={
        "name": "name",
        "queued": "queued",
        "scheduled": "scheduled",
        "running": "running",
        "wait": "began",
    },
    id="name",
    get=_read,
)


async def all_queues(app: Conveyor) -> list[QueueInfo]:
    """Return every queue, by name."""
    return await (await app.inspector()).queues()


async def one_queue(app: Conveyor, name: str) -> QueueInfo:
    """Return one. Raises `Problem` 404."""
    found = {info.name: info for info in await all_queues(app)}
    if name not in found:
        near = get_close_matches(name, found, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise Problem(404, f"no task has been in a queue {name[:100]!r} yet{hint}")
    return found[name]


async def switch(app: Conveyor, name: str, pause: Pause | None) -> QueueInfo:
    """Pause a queue, or with None let it run. Raises `Problem` 404."""
    await one_queue(app, name)
    await (await app.client()).broker.pause(name, pause)
    return await one_queue(app, name)


def limits_of(app: Conveyor, queue: str) -> list[LimitOfQueue]:
    """Return the limits that definitions state whose tasks go to this queue."""
    return [LimitOfQueue.of(limit) for limit in stated(app) if queue in limit.queues]


async def serving(app: Conveyor, queue: str) -> list[str]:
    """Return the ids of the workers that serve it."""
    workers = await (await app.inspector()).workers()
    return [worker.id for worker in workers if not worker.queues or queue in worker.queues]
