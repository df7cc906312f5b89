"""Lists of tasks in the order of their ids: these from where their state has them, then a look at
each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from conveyor.brokers.base import Filter
from conveyor.brokers.redis.describing import Sight
from conveyor.brokers.redis.records import pack_known
from conveyor.brokers.redis.store import Store, pairs
from conveyor.core.task import State, TaskInfo

_PAGE = 5_000
_LOOKS = 100
Source = tuple[str, str]
"""Kind and key of something that can be scanned for ids, see lua/scan.lua."""
RUNNING: Source = ("hash", ":i")
DUE: Source = ("zset", ":due")
FAILED: Source = ("hash", ":failed")
CANCELLED: Source = ("hash", ":cancelled")
SKIPPED: Source = ("hash", ":skipped")
GATED: Source = ("hash", ":gw")
WAITING: tuple[Source, ...] = (
    *(("list", f":q:{priority}") for priority in range(10)),
    GATED,
)
_SOURCES = {
    State.RUNNING: (RUNNING,),
    State.SCHEDULED: (DUE,),
    State.FAILED: (FAILED,),
    State.CANCELLED: (CANCELLED,),
    State.SKIPPED: (SKIPPED,),
}


async def scan(store: Store, queue: str, source: Source) -> AsyncIterator[list[bytes]]:
    """Yield the ids in a key page by page; one may come twice while it is being written."""
    cursor = b"0"
    while True:
        command = store.on_queue("scan", queue, *source, cursor, _PAGE)
        cursor, ids = await store.ask_one(command)
        yield ids
        if cursor == b"0":
            return


async def all_ids(store: Store, queue: str, sources: Iterable[Source]) -> set[bytes]:
    """Return the ids in several keys."""
    found: set[bytes] = set()
    for source in sources:
        async for ids in scan(store, queue, source):
            found.update(ids)
    return found


async def parked_sources(store: Store, queue: str) -> list[Source]:
    """Return where the parked tasks of a queue are."""
    names = await store.ask_one(store.plain("SMEMBERS", store.root(queue), ":pn"))
    return [("zset", f":p:{name.decode()}") for name in names]


async def buckets(store: Store, queue: str, kind: str) -> list[tuple[bytes, Source]]:
    """Return the buckets of tasks (j) or successes (f) of a queue, newest first."""
    key = ":jb" if kind == "j" else ":fb"
    prefixes = await store.ask_one(store.plain("ZRANGE", store.root(queue), key, 0, -1))
    return [(p, ("hash", f":{kind}:{p.hex()}")) for p in sorted(prefixes, reverse=True)]


async def list_tasks(store: Store, where: Filter) -> list[TaskInfo]:
    """Return the tasks that match, in the order of their ids."""
    queues = await store.queue_names()
    if where.queue is not None:
        queues = [queue for queue in queues if queue == where.queue]
    below, above = _known(where.before), _known(where.after)
    found: list[TaskInfo] = []
    async for ids in _in_sets(store, queues, where):
        mine = sorted(
            (
                (key, queue)
                for key, queue in ids.items()
                if (below is None or key < below) and (above is None or key > above)
            ),
            reverse=not where.oldest_first,
        )
        for start in range(0, len(mine), _LOOKS):
            looks = await look_at(store, dict(mine[start : start + _LOOKS]))
            found += [
                sight.info()
                for sight in map(Sight, looks.values())
                if (not where.states or sight.state in where.states)
                and (where.name is None or sight.task.name == where.name)
            ]
            if len(found) >= where.limit:
                return found[: where.limit]
    return found


def _known(cursor: str | None) -> bytes | None:
    return None if cursor is None else next(iter(pack_known([cursor])), None)


async def look_at(store: Store, ids: dict[bytes, str]) -> dict[bytes, list[Any]]:
    """Look at tasks whose queues are known; in the order of the ids."""
    queues: dict[str, list[bytes]] = {}
    for key, queue in ids.items():
        queues.setdefault(queue, []).append(key)
    commands = [store.on_queue("look", queue, b"".join(keys), "") for queue, keys in queues.items()]
    seen: dict[bytes, list[Any]] = {}
    for keys, reply in zip(queues.values(), await store.ask(*commands), strict=True):
        seen |= {keys[place - 1]: look for place, look in pairs(reply).items()}
    return {key: seen[key] for key in ids if key in seen}


async def _in_sets(
    store: Store, queues: list[str], where: Filter
) -> AsyncIterator[dict[bytes, str]]:
    """Yield ids with their queues, every set older (or newer) than the one before it."""
    states = set(where.states)
    if states and not states & {State.SUCCEEDED}:
        yield await _living_or_dead(store, queues, states)
        return
    # Successes are many, so they are read by the bucket; the others are in these buckets, too.
    kind = "f" if states == {State.SUCCEEDED} else "j"
    by_prefix: dict[bytes, list[tuple[str, Source]]] = {}
    for queue in queues:
        for prefix, source in await buckets(store, queue, kind):
            by_prefix.setdefault(prefix, []).append((queue, source))
    for prefix in sorted(by_prefix, reverse=not where.oldest_first):
        ids: dict[bytes, str] = {}
        for queue, source in by_prefix[prefix]:
            ids |= dict.fromkeys(await all_ids(store, queue, [source]), queue)
        yield ids


async def _living_or_dead(store: Store, queues: list[str], states: set[State]) -> dict[bytes, str]:
    ids: dict[bytes, str] = {}
    for queue in queues:
        sources = [source for state in states for source in _SOURCES.get(state, ())]
        if State.QUEUED in states:
            sources += [*WAITING, *await parked_sources(store, queue)]
        ids |= dict.fromkeys(await all_ids(store, queue, sources), queue)
    return ids
