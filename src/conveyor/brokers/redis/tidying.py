"""Housekeeping: promotion on idle queues, retention, the cap on finished records; and pauses."""

from __future__ import annotations

import asyncio

from conveyor.brokers.base import Tidied
from conveyor.brokers.redis.records import encode
from conveyor.brokers.redis.store import Store, pairs
from conveyor.core.task import Pause

MOST_BYTES = 256 * 1024 * 1024
"""What finished records of a namespace may weigh; beyond, the oldest go before their time."""
KEPT_BUCKETS = 2
"""Buckets of each queue (about 65 s each) that stay whatever they weigh: results are awaited."""
_WEIGH_EVERY = 20.0


class Tidying:
    """The verbs `tidy` and `pause`."""

    def __init__(self, store: Store, most_bytes: int = MOST_BYTES) -> None:
        self._store = store
        self._most_bytes = most_bytes
        self._weigh_at = float("-inf")

    async def tidy(self, limit: int) -> Tidied:
        """See `Broker.tidy`. `limit` holds per queue."""
        queues = await self._store.queue_names()
        if not queues:
            return Tidied()
        loop = asyncio.get_running_loop()
        if loop.time() >= self._weigh_at:
            self._weigh_at = loop.time() + _WEIGH_EVERY
            await self.make_room(queues)
        done = await self._store.ask(
            *(self._store.on_queue("tidy", queue, limit) for queue in queues)
        )
        stale = {
            queue: tokens for queue, (_, _, tokens) in zip(queues, done, strict=True) if tokens
        }
        await self._store.ask(
            *(
                self._store.on_top("orphan", queue, encode([token.decode() for token in tokens]))
                for queue, tokens in stale.items()
            )
        )
        return Tidied(
            sum(promoted for promoted, _, _ in done), sum(pruned for _, pruned, _ in done)
        )

    async def make_room(self, queues: list[str]) -> None:
        """Let the oldest successes of all queues end now, until the rest weighs little enough."""
        replies = await self._store.ask(*(self._store.on_queue("weigh", q) for q in queues))
        total = 0
        movable: list[tuple[bytes, str, int]] = []
        for queue, reply in zip(queues, replies, strict=True):
            weights = [(prefix, int(weight)) for prefix, weight in pairs(reply).items()]
            total += sum(weight for _, weight in weights)
            movable += [(prefix, queue, weight) for prefix, weight in weights[:-KEPT_BUCKETS]]
        ending: dict[str, list[bytes]] = {}
        for prefix, queue, weight in sorted(movable):
            if total <= self._most_bytes:
                break
            ending.setdefault(queue, []).append(prefix)
            total -= weight
        await self._store.ask(
            *(
                self._store.on_queue("expire", queue, b"".join(mine))
                for queue, mine in ending.items()
            )
        )

    async def pause(self, queue: str, pause: Pause | None) -> None:
        """See `Broker.pause`."""
        packed = b"" if pause is None else encode(pause)
        await self._store.ask_one(self._store.on_queue("pause", queue, packed))
