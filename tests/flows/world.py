"""A small world to run workflows in by hand: real store, real leases, advances that may be cut."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from conveyor.brokers.base import Broker, Settlement, Step
from conveyor.brokers.url import connect
from conveyor.core.codec import encode
from conveyor.core.errors import BrokerUnavailable
from conveyor.core.graph import Graph
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Failed, Outcome, Succeeded
from conveyor.core.run import Run
from conveyor.core.task import Execution, Lease, State
from conveyor.flows.advancer import Advancer
from conveyor.flows.control import states_of
from conveyor.flows.runs import Known, Runs
from conveyor.flows.sweeper import Sweeper
from conveyor.flows.trip import Ended
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.rig import BOOM

Behave = Callable[[Lease], Outcome]
WRITES = {"push", "add", "put", "requeue", "drop", "delete"}


class Cut(BrokerUnavailable):
    """The process was killed here."""


class Scissors:
    """Cuts the `at`-th write of whatever passes through it, before or after it was stored."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.after = False

    async def pass_on(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do one write, or die."""
        if self.left is None:
            return await call(*args, **kwargs)
        self.left -= 1
        if self.left >= 0:
            return await call(*args, **kwargs)
        self.left = None
        if self.after:
            await call(*args, **kwargs)
        raise Cut("killed")


class Cuttable:
    """A broker, or a part of one, whose writes pass through scissors."""

    def __init__(self, inner: Any, scissors: Scissors) -> None:
        self._inner = inner
        self._scissors = scissors

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in {"documents", "tallies"}:
            return Cuttable(found, self._scissors)
        if name in WRITES:
            return lambda *args, **kwargs: self._scissors.pass_on(found, *args, **kwargs)
        return found


class World:
    """One run, its store, and those who advance it."""

    def __init__(
        self, graph: Graph, behave: Behave, dice: random.Random, *, careful: bool = False
    ) -> None:
        self._careful = careful
        self.clock = ManualClock()
        self.scissors = Scissors()
        self.started: Counter[tuple[int, int]] = Counter()
        self.most_in_flight: Counter[int] = Counter()
        self.broker: Broker = connect("sqlite://", clock=self.clock)
        self.run = Run(
            id=new_id(),
            name="g",
            created_at=self.clock.time(),
            inputs=encode({"limit": 3}, what=""),
        )
        self._graph = graph
        self._behave = behave
        self._dice = dice
        self._cut: Any = Cuttable(self.broker, self.scissors)
        self._late: list[Ended] = []

    async def begin(self) -> None:
        """Store the run and start it."""
        await self.broker.open()
        runs = self.runs()
        known = await runs.create(self.run, self._graph)
        await Advancer(self._cut, self.clock, runs).start(known)
        self.sweeper = Sweeper(self._cut, self.clock)

    def runs(self) -> Runs:
        """Return a fresh memory of runs."""
        return Runs(self._cut, self.clock)

    async def known(self) -> Known:
        """Return the run as it is."""
        return await self.runs().get(self.run.id)

    async def states(self) -> dict[int, State]:
        """Return how nodes ended."""
        return await states_of(self.runs(), await self.known())

    async def work(self) -> bool:
        """Lease, run and settle some tasks, and advance; False when nothing is queued."""
        await self.broker.renew(["w"], 1e6)
        reply = await self.broker.step(Step("w", ("default",), self._dice.randint(1, 4)))
        settlements, ended = [], []
        for lease in reply.leases:
            terms = lease.task.terms
            assert terms is not None
            assert terms.flow is not None
            self.started[terms.node, terms.index] += 1
            outcome = self._behave(lease)
            transition = decide(lease, outcome, dice=0.5)
            record = Execution(1, 1, outcome.name, "w", 0.0, 0.0, error=transition.error)
            settlements.append(Settlement(lease, transition, record))
            ended.append(
                Ended(terms.flow, terms.node, terms.index, transition.to, transition.result)
            )
        await self.broker.step(Step("w", ("default",), 0, settlements))
        await self._advance([entry for entry in ended if entry.state.is_final])
        return bool(reply.leases)

    async def _advance(self, ended: list[Ended]) -> None:
        """Advance in some order, some of it twice or never, maybe killed in the middle."""
        if self._careful:
            with suppress(Cut):
                await Advancer(self._cut, self.clock).advance(ended)
            return
        entries = [*ended, *self._late]
        self._dice.shuffle(entries)
        self._late = [entry for entry in ended if self._dice.random() < 0.2]
        if self._dice.random() < 0.15:
            return
        if self._dice.random() < 0.3:
            self.scissors.left, self.scissors.after = (
                self._dice.randint(0, 4),
                self._dice.random() < 0.5,
            )
        try:
            await Advancer(self._cut, self.clock).advance(entries)
        except Cut:
            pass
        finally:
            self.scissors.left = None

    async def until_over(self, rounds: int = 400) -> Known:
        """Work, and sweep when there is nothing to do, until the run is over."""
        for _ in range(rounds):
            if (await self.known()).run.is_over:
                return await self.known()
            if not await self.work():
                self.clock.advance(2.5)
                await self.sweeper.round()
        raise AssertionError(f"never over; ended: {await self.states()}")


def succeed(value: Any) -> Succeeded:
    """Return a success."""
    return Succeeded(msgspec.msgpack.encode(value))


def fail() -> Failed:
    """Return a failure for good."""
    return Failed(BOOM, final=True)
