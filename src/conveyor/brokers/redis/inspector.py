"""The read-only view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from conveyor.brokers.base import Event, Filter, FinishedTask, QueueInfo, Violation, WorkerInfo
from conveyor.brokers.redis import checking
from conveyor.brokers.redis.describing import Sight
from conveyor.brokers.redis.events import missed, newest, read_events
from conveyor.brokers.redis.finished import finished
from conveyor.brokers.redis.listing import list_tasks
from conveyor.brokers.redis.store import Store, pairs
from conveyor.core.errors import TaskNotFound
from conveyor.core.task import Pause, State, TaskInfo

_pause_from = msgspec.msgpack.Decoder(Pause).decode
_worker_from = msgspec.msgpack.Decoder(WorkerInfo).decode


class RedisInspector:
    """Answers questions about the queues from where their ids sit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, task_id: str) -> TaskInfo:
        """Everything known of one task. Raises `TaskNotFound`."""
        found = await self._store.find("look", [task_id], pairs, "1")
        if task_id not in found:
            raise TaskNotFound(task_id)
        sight = Sight(found[task_id][1])
        return sight.info(sight.executions)

    async def tasks(self, where: Filter) -> list[TaskInfo]:
        """Tasks matching `where`, newest first."""
        return await list_tasks(self._store, where)

    async def counts(self) -> dict[State, int]:
        """Tasks by state."""
        counts = dict.fromkeys(State, 0)
        for _, numbers in await self._count(oldest=False):
            _, queued, parked, scheduled, running, *final = numbers
            succeeded, failed, cancelled, skipped, *_ = final
            for state, number in (
                (State.QUEUED, queued + parked),
                (State.SCHEDULED, scheduled),
                (State.RUNNING, running),
                (State.SUCCEEDED, succeeded),
                (State.FAILED, failed),
                (State.CANCELLED, cancelled),
                (State.SKIPPED, skipped),
            ):
                counts[state] += number
        return counts

    async def queue_names(self) -> list[str]:
        """Names of all queues."""
        return sorted(await self._store.queue_names())

    async def queues(self) -> list[QueueInfo]:
        """Every queue as it stands."""
        infos = []
        for queue, numbers in await self._count(oldest=True):
            now, queued, parked, scheduled, running, *_, since, pause, depths = numbers
            waits = queued > 0 and since != b"-1"
            infos.append(
                QueueInfo(
                    name=queue,
                    queued=queued,
                    scheduled=scheduled,
                    running=running,
                    parked=parked,
                    oldest_wait=max(0.0, (int(now) - int(since)) / 1000) if waits else None,
                    waits_since=int(since) / 1000 if waits else None,
                    pause=_pause_from(pause) if pause else None,
                    by_priority={level: n for level, n in enumerate(depths) if n},
                )
            )
        return sorted(infos, key=lambda info: info.name)

    async def workers(self) -> list[WorkerInfo]:
        """Workers with a live lease."""
        store = self._store
        leases, said = await store.ask(
            store.plain("ZRANGE", store.top, ":w", 0, -1, "WITHSCORES"),
            store.plain("HGETALL", store.top, ":workers"),
        )
        now = await store.time_ms()
        words = pairs(said)
        return sorted(
            (
                msgspec.structs.replace(_worker_from(words[token]), lease_until=int(till) / 1000)
                for token, till in pairs(leases).items()
                if float(till) > now and token in words
            ),
            key=lambda worker: worker.id,
        )

    async def finished(
        self, ids: Sequence[str], homes: Mapping[str, str] | None = None
    ) -> list[FinishedTask]:
        """Those of these tasks that are final now."""
        return await finished(self._store, ids, homes or {})

    async def events(self, after: str = "", limit: int = 1_000) -> list[Event]:
        """Changes of state after a cursor, oldest first."""
        return await read_events(self._store, after, limit)

    async def newest(self) -> str:
        """The cursor of the newest event."""
        return await newest(self._store)

    async def missed(self, after: str) -> bool:
        """Whether events after this cursor may be gone."""
        return await missed(self._store, after)

    async def check(self) -> list[Violation]:
        """Verify the invariants."""
        return await checking.check(self._store)

    async def _count(self, *, oldest: bool) -> list[tuple[str, list[Any]]]:
        queues = await self._store.queue_names()
        replies = await self._store.ask(
            *(self._store.on_queue("counts", queue, "1" if oldest else "") for queue in queues)
        )
        return list(zip(queues, replies, strict=True))
