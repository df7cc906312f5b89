"""Gates on Redis under everything at once: random lanes, limits, outcomes and interventions.

After every move the doctor is asked, so that a lane nobody would wake, a leaked slot or a limit
that is exceeded shows at the move that made it. At the end all is opened: every task must come to
its end, and nothing may be left of lanes and gates.
"""

import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from conveyor.brokers.base import Settlement, Step, StepReply
from conveyor.core.gates import Gate, lane_of
from conveyor.core.outcome import (
    Cancelled,
    Interrupted,
    Lost,
    Outcome,
    Released,
    Snoozed,
    Unroutable,
)
from conveyor.core.task import Fair, Lease, State, Task, Terms, Unique
from conveyor.testing.conformance.gates_rig import ME, line, per_second, slots
from conveyor.testing.conformance.rig import Rig, failure, ids, ok
from tests.servers import ValkeyServer
from tests.unit.redis_kit import rig

__all__ = ["rig"]

LIMITS = ("slots", "rate", "line")
KEYS = ("", "k", "l")
FULL = ("queue", "queue", "queue", "cancel_oldest", "cancel_newest", "drop")
LIVING = {State.QUEUED, State.SCHEDULED, State.RUNNING}


class Mix:
    """Random moves on two queues with two workers."""

    def __init__(self, rig: Rig, dice: random.Random) -> None:
        self.rig, self.dice = rig, dice
        self.leases: dict[str, Lease] = {}
        self.pushed: list[Task] = []

    async def move(self) -> None:
        moves: dict[Callable[[], Awaitable[object]], int] = {
            self.push: 30,
            self.step: 20,
            self.settle: 20,
            self.name_tasks: 12,
            self.intervene: 10,
            self.keep_house: 8,
        }
        (move,) = self.dice.choices(list(moves), list(moves.values()))
        await move()

    async def push(self) -> None:
        tasks = [self._task() for _ in range(self.dice.randint(1, 5))]
        await self.rig.push(*tasks, delay=self.dice.choice([None, None, 0, 2, 7]))
        self.pushed += tasks

    async def step(
        self, settlements: Sequence[Settlement] = (), want: int | None = None
    ) -> StepReply:
        worker = await self.rig.worker(self.dice.choice("vw"))
        queues = self.dice.sample("qr", self.dice.randint(1, 2))
        room = self.dice.choice([None, None, 0, 1, 2]) if want is None else None
        want = self.dice.randint(0, 5) if want is None else want
        reply = await self.rig.broker.step(Step(worker, queues, want, settlements, room))
        assert not reply.refused
        self._hold(reply.leases)
        return reply

    async def settle(self) -> None:
        some = self.dice.sample(list(self.leases.values()), self.dice.randint(0, len(self.leases)))
        await self.step([self._end(lease) for lease in some])

    async def name_tasks(self) -> None:
        broker = self.rig.broker
        some = ids(self.dice.sample(self.pushed, min(3, len(self.pushed))))
        match self.dice.randrange(4):
            case 0:
                await broker.requeue(some)
            case 1:
                await broker.discard(some)
            case _:
                await broker.cancel(some)

    async def intervene(self) -> None:
        gates, limit = self.rig.broker.gates, self.dice.choice(LIMITS)
        key = self.dice.choice([None, *KEYS])
        match self.dice.randrange(5):
            case 0:
                until = self.dice.choice([None, self.rig.clock.time() + 4])
                await gates.close(limit, key, until, ME)
            case 1:
                await gates.open(limit, key)
            case 2 if limit == "rate":
                await gates.tune(limit, rate=self.dice.choice([None, 1.0, 50.0]))
            case 2:
                await gates.tune(limit, most=self.dice.choice([None, 1, 4]))
            case 3:
                await self.rig.broker.pause(self.dice.choice("qr"), self.dice.choice([None, ME]))
            case _:
                await gates.reserve(per_second(2, burst=3, key=self.dice.choice(KEYS)))

    async def keep_house(self) -> None:
        match self.dice.randrange(3):
            case 0:
                await self.rig.broker.tidy()
            case 1:
                await self.adopt()
            case _:
                self.rig.clock.advance(self.dice.choice([0.01, 0.3, 1, 5]))

    async def adopt(self) -> None:
        worker = await self.rig.worker()
        self._hold(await self.rig.broker.adopt(worker, ["work"], ["q", "r"], 5))

    async def open_all(self) -> None:
        for limit in LIMITS:
            for key in (None, *KEYS):
                await self.rig.broker.gates.open(limit, key)
            await self.rig.broker.gates.tune(limit)
        for queue in "qr":
            await self.rig.broker.pause(queue, None)

    async def drain(self) -> None:
        """Bring every task to its end; what only time can bring takes time."""
        for _ in range(2_000):
            ends = [self.rig.settlement(lease, ok()) for lease in self.leases.values()]
            self.leases.clear()
            reply = await self.step(ends, want=50)
            if not reply.leases:
                await self.adopt()
                self.rig.clock.advance(0.3)
            if not self.leases and not LIVING & (await self.rig.counts()).keys():
                return
        raise AssertionError(f"these never came to their end: {await self.rig.counts()}")

    def _hold(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            assert lease.task.id not in self.leases
            self.leases[lease.task.id] = lease

    def _end(self, lease: Lease) -> Settlement:
        outcomes: list[Outcome] = [
            *[ok()] * 3,
            failure(delay=self.dice.choice([0, 3])),
            failure(final=True),
            Snoozed(self.dice.choice([0, 2])),
            Interrupted(),
            Released(),
            Cancelled(),
            Lost(),
            Unroutable(),
        ]
        del self.leases[lease.task.id]
        return self.rig.settlement(lease, self.dice.choice(outcomes))

    def _task(self) -> Task:
        dice = self.dice
        kinds = [
            slots(dice.randint(1, 3), dice.choice(KEYS), on_full=dice.choice(FULL)),
            per_second(dice.choice([0.5, 2, 10]), dice.choice([1, 3]), dice.choice(KEYS)),
            line(dice.choice(KEYS)),
        ]
        gates: tuple[Gate, ...] = tuple(dice.sample(kinds, dice.randint(0, 2)))
        fair = dice.choice([None, None, Fair("f"), Fair("g", 3)])
        unique = self._unique() if dice.random() < 0.2 else None
        priority = dice.choice([2, 5, 5, 9])
        lane = ""
        if gates or fair or (unique and unique.until in {"queued", "start"}):
            lane = lane_of(priority, gates, fair.key if fair else None)
        terms = Terms(gates, fair, lane, unique) if lane or unique else None
        return self.rig.task(queue=dice.choice("qr"), priority=priority, terms=terms)

    def _unique(self) -> Unique:
        dice = self.dice
        until = dice.choice(["queued", "start", "done", "period"])
        on_conflict = dice.choice(["return", "replace", "raise"])
        return Unique(dice.choice("xyz"), until, 5.0, on_conflict, dice.random() < 0.2, 10.0)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_every_task_comes_to_its_end(
    rig: Rig, valkey: ValkeyServer, seed: int
) -> None:
    mix = Mix(rig, random.Random(seed))
    for _ in range(100):
        await mix.move()
        assert await rig.is_healthy()
    await mix.open_all()
    await mix.drain()
    assert await rig.is_healthy()
    rig.clock.advance(3_600)
    await rig.broker.tidy()
    assert await rig.broker.gates.look() == []
    with valkey.client() as client:
        left = {key.partition(b"}")[2].decode().split(":")[1] for key in client.scan_iter("{t*")}
    passing = {"l", "gw", "lanes", "parked", "room", "rooms", "later", "slots", "busy", "turns"}
    assert not left & {*passing, "tat", "shut", "why", "uniq", "ux", "tomb"}
