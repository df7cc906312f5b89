"""Worker leases: renewal, the sweep of the silent, grace, leadership.

The namespace has the truth: one sorted set of leases. Each queue a worker works on has a copy in
its own slot, made when the worker first steps there and renewed after the truth, so that a copy
never outlives it. A sweep marks the truth first, then every copy; only then it looks for what was
held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from conveyor.brokers.base import Holding, Note, Renewal, WorkerInfo
from conveyor.brokers.redis.records import (
    encode,
    ms,
    raw,
    read_before,
    read_hold,
    task_from,
    unpack_id,
)
from conveyor.brokers.redis.server import Command
from conveyor.brokers.redis.store import Store, pairs
from conveyor.core.task import Lease

_PAGE = 100
read_note = msgspec.msgpack.Decoder(Note).decode


class Renewing:
    """The verbs `renew`, `held`, `grace` and `lead`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: set[str] = set()
        """Leases made by this broker: should one be gone, the server was emptied."""

    async def renew(
        self, workers: Sequence[str], seconds: float, info: WorkerInfo | None = None
    ) -> dict[str, Renewal]:
        """See `Broker.renew`."""
        if not workers:
            return {}
        store = self._store
        asked = [
            (worker, ms(seconds), int(worker in self._made), raw(_words(worker, workers, info)))
            for worker in workers
        ]
        answers = await store.ask_one(store.on_top("renew", encode(asked)))
        copies: list[Command] = []
        owners: list[str] = []
        for worker, (alive, till, queues) in zip(workers, answers, strict=True):
            if alive and seconds > 0:
                self._made.add(worker)
            else:
                self._made.discard(worker)
            for queue in queues:
                copies.append(store.on_queue("enlist", queue.decode(), worker, till))
                owners.append(worker)
        cancels: dict[str, list[str]] = {worker: [] for worker in workers}
        for worker, (_, ids) in zip(owners, await store.ask(*copies), strict=True):
            cancels[worker] += map(unpack_id, ids)
        return {
            worker: Renewal(alive == 1, cancels[worker])
            for worker, (alive, _, _) in zip(workers, answers, strict=True)
        }

    async def held(self, worker: str | None = None, limit: int = 1_000) -> list[Holding]:
        """See `Broker.held`."""
        store = self._store
        if worker is not None:
            key = f":wq:{worker}"
            queues = await store.ask_one(store.plain("SMEMBERS", store.top, key))
            found, _ = await self._scan({worker: queues}, limit)
            return found
        swept = pairs(await store.ask_one(store.on_top("sweep")))
        if not swept:
            return []
        silent = {token.decode(): queues for token, queues in swept.items()}
        await store.ask(
            *(
                store.on_queue("mark", queue, encode(tokens))
                for queue, tokens in _by_queue(silent).items()
            )
        )
        found, complete = await self._scan(silent, limit)
        if complete:
            await self._forget(silent.keys() - {holding.lease.worker for holding in found})
        return found

    async def grace(self, seconds: float) -> None:
        """See `Broker.grace`."""
        await self._store.ask_one(self._store.on_top("grace", ms(seconds)))

    async def lead(self, role: str, holder: str, seconds: float) -> float | None:
        """See `Broker.lead`."""
        answer = await self._store.ask_one(self._store.on_top("lead", role, holder, ms(seconds)))
        return int(answer) / 1000 if answer else None

    async def _scan(
        self, workers: dict[str, Iterable[bytes]], limit: int
    ) -> tuple[list[Holding], bool]:
        """Return up to `limit` holdings of workers, and whether these are all."""
        found: dict[bytes, Holding] = {}
        for queue, tokens in _by_queue(workers).items():
            cursor = b"0"
            while True:
                page = self._store.on_queue("holdings", queue, cursor, _PAGE, encode(tokens))
                cursor, looks = await self._store.ask_one(page)
                found |= {key: _holding(look) for key, look in pairs(looks).items()}
                if len(found) > limit:
                    return [found[key] for key in sorted(found)][:limit], False
                if cursor == b"0":
                    break
        return [found[key] for key in sorted(found)], True

    async def _forget(self, tokens: Iterable[str]) -> None:
        """Swept workers that hold nothing any more need no further looks."""
        for token in tokens:
            store = self._store
            await store.ask(
                store.plain("DEL", store.top, f":wq:{token}"),
                store.plain("SREM", store.top, ":pending", token),
            )


def _words(worker: str, workers: Sequence[str], info: WorkerInfo | None) -> bytes:
    if info is None or (info.id != worker and len(workers) > 1):
        return b""
    return encode(info)


def _by_queue(workers: dict[str, Iterable[bytes]]) -> dict[str, list[str]]:
    queues: dict[str, list[str]] = {}
    for worker, names in workers.items():
        for name in names:
            queues.setdefault(name.decode(), []).append(worker)
    return queues


def _holding(look: list[Any]) -> Holding:
    _, packed, hold, before, note, flag, _ = look
    number, leased_at, worker = read_hold(hold)
    _, touched = read_before(before)
    task = task_from(packed)
    lease = Lease(task, number, touched.counters, bool(flag), worker, leased_at)
    return Holding(lease, read_note(note.split(b" ", 1)[1]) if note else None)
