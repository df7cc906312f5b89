"""Nobody is forgotten at a gate, whatever happens: moves at random, checked after each."""

import random
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from conveyor.brokers.base import Filter, Settlement, Step, StepReply
from conveyor.brokers.sqlite.broker import SQLiteBroker
from conveyor.brokers.sqlite.rows import decode_task, pack_id
from conveyor.core.gates import Gate, Refusal, admit, lane_of
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Interrupted, Outcome, Snoozed, Succeeded, Unroutable
from conveyor.core.task import Fair, Lease, NewTask, Pause, State, Terms
from conveyor.testing.clock import ManualClock
from tests.unit.sqlite_kit import broker, clock, on_writer, success, task

__all__ = ["broker", "clock"]

pytestmark = pytest.mark.sqlite

ME = Pause("maintenance", "ada", 0.0)
LIMITS = ("slots", "rate", "line")
GATES = [
    Gate("slots", "", most=2),
    Gate("slots", "a", most=1),
    Gate("slots", "b", most=1),
    Gate("rate", "", rate=2.0, burst=3.0),
    Gate("line", "x", most=1, line=True),
    Gate("line", "y", most=1, line=True),
]
OTHERWISE = [
    Gate("slots", "", most=3),
    Gate("slots", "a", most=3),
    Gate("slots", "b", most=3),
    Gate("rate", "", rate=2.0, burst=3.0, cost=2.0),
    Gate("line", "x", most=3, line=True),
    Gate("line", "y", most=3, line=True),
]
"""The same limits with other numbers, as during a deployment."""


class Crowd:
    """Producers, workers and people who do one thing after the other."""

    def __init__(self, broker: SQLiteBroker, seed: int) -> None:
        self.broker = broker
        self.dice = random.Random(seed)
        self.running: list[Lease] = []

    async def move(self) -> None:
        moves: list[Callable[[], Awaitable[None]]] = [
            *[self.push] * 7,
            *[self.settle] * 8,
            *[self.cancel] * 2,
            self.adopt,
            *[self.decree] * 2,
        ]
        await self.dice.choice(moves)()

    async def push(self) -> None:
        dice = self.dice
        delay = dice.choice([None, None, 1.5])
        news = [self._any_task() for _ in range(dice.randrange(1, 6))]
        await self.broker.push([NewTask(new.task, delay) for new in news])

    def _any_task(self) -> NewTask:
        dice = self.dice
        chosen = dice.sample(range(len(GATES)), dice.choice([0, 1, 1, 2, 3]))
        kind = GATES if dice.random() < 0.8 else OTHERWISE
        gates = tuple(kind[number] for number in sorted(chosen))
        fair = dice.choice([None, None, "a", "b", "c"])
        priority = dice.choice([2, 5])
        turn = None if fair is None else Fair(fair, dice.choice([1, 2]))
        terms = Terms(gates, turn, lane_of(priority, gates, fair))
        return task(terms=terms, priority=priority, queue=dice.choice(["q", "q", "r"]))

    async def settle(self) -> None:
        outcomes: list[Outcome] = [Succeeded(b"\xc0"), Snoozed(1.0), Interrupted(), Unroutable()]
        self.dice.shuffle(self.running)
        ended = [self.running.pop() for _ in range(self.dice.randrange(len(self.running) + 1))]
        settlements = [
            Settlement(lease, decide(lease, self.dice.choice(outcomes), dice=0.5))
            for lease in ended
        ]
        await self.broker.step(Step("w", ["q"], 0, settlements))

    async def cancel(self) -> None:
        waiting = Filter(states=(State.QUEUED, State.SCHEDULED))
        listed = await self.broker.inspector.tasks(waiting)
        chosen = self.dice.sample(listed, min(3, len(listed)))
        await self.broker.cancel([info.id for info in chosen])

    async def adopt(self) -> None:
        self.running += await self.broker.adopt("w", ["work"], ["q", "r"], 5)

    async def decree(self) -> None:
        gates, limit = self.broker.gates, self.dice.choice(LIMITS)
        decrees: list[Callable[[], Awaitable[None]]] = [
            partial(gates.close, limit, self.dice.choice([None, ""]), None, ME),
            partial(gates.open, limit, None),
            partial(gates.open, limit, ""),
            partial(gates.tune, limit, most=self.dice.choice([None, 1, 3])),
        ]
        await self.dice.choice(decrees)()

    async def step(self) -> StepReply:
        queues = self.dice.choice([["q", "r"], ["r", "q"]])
        reply = await self.broker.step(Step("w", queues, 1_000))
        self.running += reply.leases
        return reply

    async def relent(self) -> None:
        for limit in LIMITS:
            await self.broker.gates.open(limit, None)
            await self.broker.gates.open(limit, "")
            await self.broker.gates.tune(limit)


def carried(connection: sqlite3.Connection, task_id: str) -> tuple[tuple[Gate, ...], list[bool]]:
    """Return the gates of a task, and of which of them it has a slot."""
    seq, body = connection.execute(
        "SELECT seq, body FROM conveyor_task WHERE id = ?", (pack_id(task_id),)
    ).fetchone()
    held = connection.execute(
        "SELECT g.name, g.key FROM conveyor_slot s JOIN conveyor_gate g ON g.id = s.gate"
        " WHERE s.seq = ?",
        (seq,),
    ).fetchall()
    terms = decode_task(body).terms
    assert terms is not None
    return terms.gates, [(gate.limit, gate.key) in held for gate in terms.gates]


async def assert_nobody_is_forgotten(broker: SQLiteBroker, now: float, reply: StepReply) -> None:
    """After a step that wanted more than there is, the head of every lane is refused, and those
    that are refused until a time are looked at by then.
    """
    for info in await broker.inspector.tasks(Filter(states=(State.QUEUED,), limit=10_000)):
        standing = (await broker.gates.standing([info.id]))[info.id]
        if standing.ahead or "unroutable" in info.flags:
            continue
        read: Any = broker._opened().writer.read
        gates, holds = await read(partial(carried, task_id=info.id))
        verdict = admit(gates, [gate.state for gate in standing.gates], now, holds=holds)
        assert isinstance(verdict, Refusal), info
        if verdict.at is not None:
            assert reply.next_due is not None
            assert now + reply.next_due <= verdict.at + 1e-5


@pytest.mark.parametrize("seed", range(8))
async def test_whoever_may_run_does_run(
    broker: SQLiteBroker, clock: ManualClock, seed: int
) -> None:
    crowd = Crowd(broker, seed)
    for _ in range(100):
        await crowd.move()
        clock.advance(crowd.dice.choice([0, 0, 0.3]))
        reply = await crowd.step()
        await assert_nobody_is_forgotten(broker, clock.time(), reply)
        assert await broker.inspector.check() == []
        if reply.next_due is not None and crowd.dice.random() < 0.3:
            clock.advance(reply.next_due + 1e-6)
    await crowd.relent()
    # Now all of it runs in the end, driven by nothing but what steps say of the time.
    for _ in range(2_000):
        await crowd.adopt()
        ended, crowd.running = crowd.running, []
        await broker.step(Step("w", ["q"], 0, [success(lease) for lease in ended]))
        reply = await crowd.step()
        if not crowd.running and not ended:
            if reply.next_due is None:
                break
            clock.advance(reply.next_due + 1e-6)
    counts = await broker.inspector.counts()
    assert not counts[State.QUEUED] + counts[State.SCHEDULED] + counts[State.RUNNING]
    assert await on_writer(broker, "SELECT count(*) FROM conveyor_lane") == 0
    assert await on_writer(broker, "SELECT count(*) FROM conveyor_slot") == 0
