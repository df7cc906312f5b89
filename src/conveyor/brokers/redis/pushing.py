"""Push: from tasks to one script call per queue, sent again while its fate is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from conveyor.brokers.base import Pushed
from conveyor.brokers.redis.durability import Durability
from conveyor.brokers.redis.faults import Unanswered
from conveyor.brokers.redis.records import (
    asking,
    encode,
    join_ids,
    key_field,
    ms,
    raw,
    split_ids,
    unpack_id,
)
from conveyor.brokers.redis.server import Command
from conveyor.brokers.redis.store import Store
from conveyor.core.errors import BrokerUnavailable, EnqueueUnknown
from conveyor.core.task import NewTask

CHUNK = 1_000
_TRIES, _SECONDS = 3, 10.0
_PAUSE = 0.1


class Pushing:
    """The verb `push`."""

    def __init__(self, store: Store, durability: Durability) -> None:
        self._store = store
        self._durability = durability

    async def push(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        """See `Broker.push`."""
        pushed: list[Pushed] = []
        for start in range(0, len(tasks), CHUNK):
            pushed += await self._push_chunk(tasks[start : start + CHUNK])
        return pushed

    async def _push_chunk(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        queues: dict[str, list[NewTask]] = {}
        for new in tasks:
            queue = new.task.queue
            if queue in queues:
                queues[queue].append(new)
            else:
                queues[queue] = [new]
        new_queues = {queue for queue in queues if not self._store.is_registered(queue)}
        if new_queues:
            await self._store.register(sorted(new_queues))
        ids = [new.task.id for new in tasks]
        commands = [
            self._store.on_queue(name, queue, *args)
            for queue, (name, args) in ((queue, pack_push(mine)) for queue, mine in queues.items())
        ]
        replies = await self._send(commands, ids)
        answers = {task_id: Pushed(task_id) for task_id in ids}
        for (queue, mine), (unknown, exceptions) in zip(queues.items(), replies, strict=True):
            if unknown and queue not in new_queues:
                # Somebody emptied the server since: also the registry is gone.
                await self._store.register([queue])
            self._store.remember([new.task.id for new in mine], queue)
            for place, owner, differs in zip(*[iter(exceptions)] * 3, strict=True):
                task_id = mine[place - 1].task.id
                answers[task_id] = Pushed(unpack_id(owner), created=False, conflict=differs == 1)
        return [answers[task_id] for task_id in ids]

    async def _send(self, commands: list[Command], ids: list[str]) -> list[Any]:
        """Send until answered, three times within ten seconds. Pushing an id twice stores it once,
        so what may have arrived may be sent again.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SECONDS
        atomic = len(commands) > 1 and not self._store.link.spread
        sent = False
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_PAUSE * attempt)
            try:
                replies = await self._store.link.run(
                    commands, atomic=atomic, wait=self._durability.wait
                )
                return self._store.checked(replies)
            except Unanswered:
                sent = True
            except BrokerUnavailable:
                if not sent:
                    raise
            if loop.time() > deadline:
                break
        raise EnqueueUnknown(ids)


def pack_push(tasks: Sequence[NewTask]) -> tuple[str, tuple[bytes, ...]]:
    """Pack the tasks of one queue: the name of the script that takes them, and its arguments."""
    joined = join_ids([new.task.id for new in tasks])
    ids = split_ids(joined)
    plain = all(
        new.delay is None
        and new.due_at is None
        and new.task.key is None
        and (new.task.terms is None or asking(new.task) is None)
        for new in tasks
    ) and len(set(ids)) == len(ids)
    if not plain:
        entries = [_entry(task_id, new) for task_id, new in zip(ids, tasks, strict=True)]
        return "push_each", (encode(entries),)
    packed = [encode(new.task) for new in tasks]
    oldest, newest = min(ids), max(ids)
    return "push", (
        joined,
        bytes([48 + new.task.priority for new in tasks]),
        b"".join(packed),
        encode(list(map(len, packed))),
        oldest[:6] + newest[:6],
        b"1" if oldest[:4] == newest[:4] else b"",
    )


def _entry(task_id: bytes, new: NewTask) -> tuple[Any, ...]:
    task = new.task
    delay = -1 if new.delay is None else max(0, ms(new.delay))
    due = -1 if new.due_at is None else ms(new.due_at)
    field = b"" if task.key is None else key_field(task.name, task.key)
    digest = task.digest or ""
    packed, name = raw(encode(task)), raw(task.name.encode())
    entry = (raw(task_id), task.priority, packed, delay, due, raw(field), digest, name)
    terms = asking(task)
    return entry if terms is None else (*entry, terms)
