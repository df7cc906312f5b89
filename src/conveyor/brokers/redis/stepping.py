"""Step and adopt: the hot path. One script call per step when one queue is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from conveyor.brokers.base import Step, StepReply
from conveyor.brokers.redis.records import (
    encode,
    read_before,
    tasks_from,
    unpack_id,
)
from conveyor.brokers.redis.server import Command
from conveyor.brokers.redis.settling import Packed, pack_settlements
from conveyor.brokers.redis.store import Store
from conveyor.core.task import UNTOUCHED, Lease

MOST = 1_000
"""Tasks leased by one call of the script."""
NOTHING: Packed = (b"",)
LOOK_AROUND = 1.0
"""Seconds between looks at all the queues a worker works on, whichever it leases from."""


class Seat:
    """What this broker remembers of a worker that steps here."""

    def __init__(self) -> None:
        self.queues: set[str] = set()
        """Those that have a copy of its lease."""
        self.rung: set[str] = set()
        """Those whose bell rang since the last step."""
        self.listeners = 0
        self.looked_at: float | None = None


class Gathered:
    """The replies of one step, put together."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self.leases: list[Lease] = []
        self.refused: list[str] = []
        self.cancels: list[str] = []
        self.next_due: float | None = None
        self.from_lanes = 0

    def add(self, reply: list[Any]) -> None:
        """Take in the reply of one queue."""
        now, _, tasks, before, refused, cancels, due, _, from_lanes = reply
        self.from_lanes += from_lanes
        if tasks:
            self.leases += leases_of(self._worker, now, tasks, before)
        if refused:
            self.refused += map(unpack_id, refused)
        if cancels:
            self.cancels += map(unpack_id, cancels)
        if due != b"-1":
            seconds = max(0.0, (int(due) - int(now)) / 1000)
            self.next_due = seconds if self.next_due is None else min(seconds, self.next_due)

    def reply(self) -> StepReply:
        """Return the whole."""
        return StepReply(self.leases, self.refused, self.cancels, self.next_due)


def leases_of(worker: str, now: bytes, tasks: bytes, before: list[Any]) -> list[Lease]:
    """Decode what a script leased. `before` names the places, from 1, of tasks leased before."""
    leased_at = int(now) / 1000
    leases = [Lease(task, 1, UNTOUCHED, False, worker, leased_at) for task in tasks_from(tasks)]
    for place, stored in zip(before[::2], before[1::2], strict=True):
        number, touched = read_before(stored)
        counters = UNTOUCHED if touched.counters == UNTOUCHED else touched.counters
        task = leases[place - 1].task
        leases[place - 1] = Lease(task, number + 1, counters, False, worker, leased_at)
    return leases


class Stepping:
    """The verbs `step` and `adopt`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seats: dict[str, Seat] = {}

    def seat(self, worker: str) -> Seat:
        """Return what is remembered of a worker."""
        if worker not in self._seats:
            self._seats[worker] = Seat()
        return self._seats[worker]

    async def step(self, step: Step) -> StepReply:
        """See `Broker.step`."""
        packed = pack_settlements(step.settlements)
        first = step.queues[0] if step.queues else None
        visits = dict.fromkeys([first] if first is not None else [])
        visits |= dict.fromkeys(packed)
        if first is not None:
            visits |= dict.fromkeys(await self._look_around(step.worker))
        commands = [
            self._visit(
                step,
                queue,
                (step.want, step.slots) if queue == first else (0, 0),
                packed.get(queue, NOTHING),
            )
            for queue in visits
        ]
        replies = await self._store.ask(*commands, atomic=True)
        gathered = Gathered(step.worker)
        for reply in replies:
            gathered.add(reply)
        if step.want > 0 and first is not None:
            await self._lease_on(step, gathered, replies[0])
        return gathered.reply()

    async def adopt(
        self, worker: str, names: Sequence[str], queues: Sequence[str], want: int
    ) -> list[Lease]:
        """See `Broker.adopt`."""
        if want <= 0 or not names or not queues:
            return []
        leases: list[Lease] = []
        parked = await self._store.ask(
            *(self._store.plain("EXISTS", self._store.root(queue), ":pn") for queue in queues)
        )
        known = encode(list(names))
        for queue, some in zip(queues, parked, strict=True):
            while some and len(leases) < want:
                asked = min(want - len(leases), MOST)
                command = self._store.on_queue("adopt", queue, worker, asked, known)
                now, live, tasks, before = await self._store.ask_one(command)
                got = leases_of(worker, now, tasks, before) if tasks else []
                leases += got
                if not live and not await self._join(worker, queue):
                    return leases
                if live and len(got) < asked:
                    break
        return leases

    def _visit(
        self, step: Step, queue: str, asked: tuple[int, int | None], settlements: Packed
    ) -> Command:
        want, slots = asked
        seat = self._seats.get(step.worker)
        listening = 1 if seat is not None and seat.listeners else ""
        wanted = min(max(want, 0), MOST)
        from_lanes = wanted if slots is None else min(max(slots, 0), wanted)
        args = (step.worker, wanted, listening, from_lanes, *settlements)
        return self._store.on_queue("step", queue, *args)

    async def _look_around(self, worker: str) -> set[str]:
        """Return the other queues to look at in this step: cancellations may wait there."""
        seat = self.seat(worker)
        rung, seat.rung = seat.rung, set()
        now = asyncio.get_running_loop().time()
        if seat.looked_at is None:
            key = f":wq:{worker}"
            held = await self._store.ask_one(self._store.plain("SMEMBERS", self._store.top, key))
            seat.queues.update(queue.decode() for queue in held)
        elif now - seat.looked_at < LOOK_AROUND:
            return rung
        seat.looked_at = now
        return rung | seat.queues

    async def _lease_on(self, step: Step, gathered: Gathered, reply: list[Any] | None) -> None:
        """Lease what is still wanted: go on in the first queue, then in the next ones."""
        asked = min(step.want, MOST)
        got = len(gathered.leases)
        for queue in step.queues:
            joined = False
            while len(gathered.leases) < step.want:
                if reply is None:
                    before = len(gathered.leases)
                    asked = min(step.want - before, MOST)
                    slots = None if step.slots is None else step.slots - gathered.from_lanes
                    visit = self._visit(step, queue, (asked, slots), NOTHING)
                    reply = await self._store.ask_one(visit)
                    gathered.add(reply)
                    got = len(gathered.leases) - before
                live, more = reply[1], reply[7]
                reply = None
                if not live:
                    if joined or not await self._join(step.worker, queue):
                        return
                    joined = True
                elif got < asked and not more:
                    break

    async def _join(self, worker: str, queue: str) -> bool:
        """Copy the worker's lease to a queue it is new at. Returns whether it may lease there."""
        store = self._store
        till = await store.ask_one(store.on_top("enter", worker, queue))
        if till == b"0":
            return False
        may_lease, _ = await store.ask_one(store.on_queue("enlist", queue, worker, till))
        self.seat(worker).queues.add(queue)
        return bool(may_lease)
