"""The broker on Redis and Valkey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from conveyor.brokers.base import (
    Holding,
    Note,
    Pushed,
    Renewal,
    Step,
    StepReply,
    Tidied,
    WorkerInfo,
)
from conveyor.brokers.redis.address import parse
from conveyor.brokers.redis.bells import Bells
from conveyor.brokers.redis.documents import RedisDocuments, RedisTallies
from conveyor.brokers.redis.durability import Durability
from conveyor.brokers.redis.ending import Ending
from conveyor.brokers.redis.gates import RedisGates
from conveyor.brokers.redis.inspector import RedisInspector
from conveyor.brokers.redis.pushing import Pushing
from conveyor.brokers.redis.renewing import Renewing
from conveyor.brokers.redis.stepping import Stepping
from conveyor.brokers.redis.store import Store
from conveyor.brokers.redis.tidying import Tidying
from conveyor.core.clock import Clock
from conveyor.core.task import Final, Lease, NewTask, Pause, State
from conveyor.core.urls import redact


class RedisBroker:
    """A store of tasks on Redis (6.2 or newer) or Valkey; see `Broker` for what it promises and
    `address.parse` for its URLs. **A failover may lose the last moments of enqueues and may re-run
    finished tasks.**
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        address = parse(url)
        self.url = redact(url)
        self._store = Store(address, clock)
        self._durability = Durability(address.durability, address.timeout)
        self._pushing = Pushing(self._store, self._durability)
        self._stepping = Stepping(self._store)
        self._renewing = Renewing(self._store)
        self._ending = Ending(self._store)
        self._tidying = Tidying(self._store)
        self._inspector = RedisInspector(self._store)
        self._gates = RedisGates(self._store)
        self._documents = RedisDocuments(self._store)
        self._tallies = RedisTallies(self._store)

    def __repr__(self) -> str:
        """Show where, never the password."""
        return f"<RedisBroker {self.url}>"

    @property
    def durability(self) -> str:
        """What the server keeps: `fast`, `fsync` or `replicated`; known once open."""
        return self._durability.mode

    @property
    def inspector(self) -> RedisInspector:
        """The read-only view of this store."""
        return self._inspector

    @property
    def gates(self) -> RedisGates:
        """The limits of this store."""
        return self._gates

    @property
    def documents(self) -> RedisDocuments:
        """Schedules, strikes, graphs: small shared facts."""
        return self._documents

    @property
    def tallies(self) -> RedisTallies:
        """Fan-ins of workflows."""
        return self._tallies

    async def open(self) -> None:
        """Connect and look at the server's settings. Raises `BrokerUnavailable` or
        `DurabilityUnmet`.
        """
        await self._durability.settle(self._store)

    async def close(self) -> None:
        """Let go of every connection."""
        await self._store.link.close()

    async def migrate(self) -> list[str]:
        """Nothing to do: keys are made as they are needed."""
        return []

    async def push(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        """See `Broker.push`. In a cluster a call is atomic for each of its queues."""
        return await self._pushing.push(tasks)

    async def step(self, step: Step) -> StepReply:
        """See `Broker.step`: one script call when the first queue has enough."""
        return await self._stepping.step(step)

    async def adopt(
        self, worker: str, names: Sequence[str], queues: Sequence[str], want: int
    ) -> list[Lease]:
        """See `Broker.adopt`."""
        return await self._stepping.adopt(worker, names, queues, want)

    async def renew(
        self, workers: Sequence[str], seconds: float, info: WorkerInfo | None = None
    ) -> dict[str, Renewal]:
        """See `Broker.renew`."""
        return await self._renewing.renew(workers, seconds, info)

    async def held(self, worker: str | None = None, limit: int = 1_000) -> list[Holding]:
        """See `Broker.held`."""
        return await self._renewing.held(worker, limit)

    async def grace(self, seconds: float) -> None:
        """See `Broker.grace`."""
        await self._renewing.grace(seconds)

    async def cancel(
        self, ids: Sequence[str], *, by: str = "", reason: str = ""
    ) -> dict[str, State]:
        """See `Broker.cancel`."""
        return await self._ending.cancel(ids, by, reason)

    async def requeue(self, ids: Sequence[str], *, dead_only: bool = False) -> list[str]:
        """See `Broker.requeue`."""
        return await self._ending.requeue(ids, dead_only=dead_only)

    async def reschedule(
        self, ids: Sequence[str], *, delay: float | None = None, due_at: float | None = None
    ) -> list[str]:
        """See `Broker.reschedule`."""
        return await self._ending.reschedule(ids, delay, due_at)

    async def discard(self, ids: Sequence[str]) -> list[str]:
        """See `Broker.discard`."""
        return await self._ending.discard(ids)

    async def annotate(self, notes: Sequence[Note]) -> list[bool]:
        """See `Broker.annotate`."""
        return await self._ending.annotate(notes)

    async def finals(self, ids: Sequence[str]) -> dict[str, Final]:
        """See `Broker.finals`."""
        return await self._ending.finals(ids)

    async def pause(self, queue: str, pause: Pause | None) -> None:
        """See `Broker.pause`."""
        await self._tidying.pause(queue, pause)

    async def tidy(self, limit: int = 1_000) -> Tidied:
        """See `Broker.tidy`."""
        return await self._tidying.tidy(limit)

    async def lead(self, role: str, holder: str, seconds: float) -> float | None:
        """See `Broker.lead`."""
        return await self._renewing.lead(role, holder, seconds)

    def listen(
        self, worker: str, queues: Sequence[str], ring: Callable[[], Any]
    ) -> AbstractAsyncContextManager[None]:
        """See `Broker.listen`. `queues` may change while it is listened to."""
        return Bells(self._store, worker, queues, ring, self._stepping.seat(worker)).listening()
