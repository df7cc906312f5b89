"""What the keeper does for workflows: find runs that a crash has left standing, and go on.

A worker that dies between storing the end of a node and pushing what follows leaves no trace of
the debt but the record itself. So every active run is looked at every few seconds: of its nodes
that should be under way, those that were so at the last look already are pushed again (a no-op
for all that exist) and asked whether they have ended. What is younger is left to the workers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from conveyor.core import advance
from conveyor.core.task import State
from conveyor.flows import births
from conveyor.flows.advancer import Advancer
from conveyor.flows.births import items_of
from conveyor.flows.closing import clear, close, prune
from conveyor.flows.control import states_of, stop
from conveyor.flows.keying import CannotStart
from conveyor.flows.results import Reader, absent, finals
from conveyor.flows.runs import ACTIVE, GRAPH, Runs
from conveyor.flows.steps import prune_steps
from conveyor.flows.trip import Ended, Trip

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.flows.runs import Known

EVERY = 2.0
"""Seconds between two looks at a run, at least."""
COSTLY = 20
"""A look that took long is repeated after so many times its duration: large runs wait longer."""
SELDOM = 10.0
"""Seconds between two looks at a run in which nothing moves, at most."""
BUDGET = 1.0
"""Seconds that one round may take: the keeper has others to rescue."""
AT_A_TIME = 20
STILLBORN = 60.0
"""Seconds after which the mark of a run that was never stored whole is cleared."""
PRUNE_EVERY = 60.0
_PAGE = 1_000


class _Look:
    """What the last look at a run has seen under way."""

    __slots__ = ("children", "due", "nodes", "pause", "pushed")

    def __init__(self, due: float) -> None:
        self.due = due
        self.pause = EVERY
        self.nodes: set[int] = set()
        self.pushed: set[int] = set()
        self.children: dict[int, set[int]] = {}


class Sweeper:
    """Looks after the runs of a store. Again, or by two keepers at a time, is safe."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._runs = Runs(broker, clock)
        self._advancer = Advancer(broker, clock, self._runs)
        self._looks: dict[str, _Look] = {}
        self._prune_at = float("-inf")
        self._steps_after = ""

    async def round(self) -> int:
        """Look at the runs that are due; returns how many tasks had to be pushed."""
        now = self._clock.monotonic()
        due = [run_id for run_id in await self._active(now) if self._looks[run_id].due <= now]
        due.sort(key=lambda run_id: self._looks[run_id].due)
        pushed = 0
        for start in range(0, len(due), AT_A_TIME):
            if self._clock.monotonic() - now > BUDGET:
                break
            batch = due[start : start + AT_A_TIME]
            pushed += sum(await asyncio.gather(*map(self._timed, batch)))
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY
            await prune(self._runs)
            self._steps_after = await prune_steps(self._broker, self._steps_after)
        return pushed

    async def _timed(self, run_id: str) -> int:
        """Look at a run, and say when to look again: seldom where nothing moves."""
        look, began = self._looks[run_id], self._clock.monotonic()
        before = look.nodes
        pushed = await self._look_at(run_id)
        ended = self._clock.monotonic()
        look.pause = min(SELDOM, look.pause * 1.5) if look.nodes == before else EVERY
        look.due = ended + max(look.pause, COSTLY * (ended - began))
        return pushed

    async def _active(self, now: float) -> list[str]:
        """List the marks, and keep in mind only what is still active."""
        active: list[str] = []
        while page := await self._broker.documents.list(
            ACTIVE, after=active[-1] if active else "", limit=_PAGE
        ):
            active += [mark.id for mark in page]
            if len(page) < _PAGE:
                break
        self._looks = {
            # Whoever has just stored it is about to start it.
            run_id: self._looks.get(run_id) or _Look(now)
            for run_id in active
        }
        return active

    async def _look_at(self, run_id: str) -> int:
        known = (await self._runs.load([run_id], fresh=0.0)).get(run_id)
        if known is None:
            await self._clear_stillborn(run_id)
            return 0
        if known.run.is_over:
            await clear(self._runs, known.run, known.plan)
            return 0
        states = await states_of(self._runs, known)
        if known.run.cancel is not None:
            for_good = self._clock.time() - known.run.cancel.at > EVERY
            await stop(self._runs, known, states, for_good=for_good)
            return 0
        if len(states) == known.plan.end:
            await close(self._runs, known, self._clock.time())
            return 0
        return await self._go_on(known, states, self._looks[run_id])

    async def _clear_stillborn(self, run_id: str) -> None:
        made_at = int(run_id.replace("-", "")[:12], 16) / 1000
        if self._clock.time() - made_at > STILLBORN:
            await self._broker.documents.delete(GRAPH, run_id)
            await self._broker.documents.delete(ACTIVE, run_id)

    async def _go_on(self, known: Known, states: dict[int, State], look: _Look) -> int:
        front = advance.frontier(known.plan.graph, states)
        old = [number for number in front if number in look.nodes]
        look.nodes = set(front)
        look.pushed &= look.nodes
        trip = Trip(known, states)
        there = await self._there(known, [n for n in old if n not in look.pushed])
        plain: dict[str, int] = {}
        maps = []
        for number in old:
            if front[number] is not State.QUEUED:
                trip.end(number, front[number])
            elif number not in look.pushed:
                look.pushed.add(number)
                if number not in there:
                    trip.wave.ready[number] = None
            elif known.plan.graph.nodes[number].kind == "map":
                maps.append(number)
            else:
                plain[births.node_id(known, number)] = number
        for task_id, final in (await finals(self._broker, list(plain))).items():
            number = plain[task_id]
            trip.take(Ended(known.run.flow, number, 0, final.state, final.result))
        for number in maps:
            await self._map(trip, number, look)
        return await self._advancer.settle([trip])

    async def _there(self, known: Known, numbers: list[int]) -> set[int]:
        """Return which of these nodes have their task (a map: its first child; for the others
        `_map` looks), as far as pushing it again would cost a relay: without the task's code it
        cannot be made again as it was."""
        graph = known.plan.graph
        ids = {
            births.node_id(known, number, known.first_child(number)): number
            for number in numbers
            if graph.lots[graph.nodes[number].lot].keyed
        }
        gone = await absent(self._broker, list(ids)) if ids else set()
        return {number for task_id, number in ids.items() if task_id not in gone}

    async def _map(self, trip: Trip, number: int, look: _Look) -> None:
        """Push children of a mapped node that are missing, and take in ends not on record."""
        known, node = trip.known, trip.known.plan.graph.nodes[number]
        reader = Reader(self._broker)
        await reader.read([(trip, number)])
        lookup = reader.lookup(trip, number)
        try:
            known.items.setdefault(number, items_of(node, lookup))
        except CannotStart:
            return  # its parent's result has expired: the children that run end it
        members = await self._broker.tallies.members(trip.wave.keys.join(number, "*"))
        ended, todo = set(map(int, members)), known.todo(number)
        broken = node.fail_fast and await self._broker.tallies.members(
            trip.wave.keys.join(number, "!")
        )
        if len(ended) >= len(todo) or broken:
            trip.wave.grown[number] = len(ended)
            trip.broken |= {number} if broken else set()
            return
        begun = todo[: node.window + len(ended)]
        missing = {index for index in begun if index not in ended}
        old = sorted(missing & look.children.get(number, set()))
        look.children[number] = missing
        to_push = old
        if known.plan.graph.lots[node.lot].keyed:
            gone = await absent(self._broker, [births.node_id(known, number, i) for i in old])
            to_push = [i for i in old if births.node_id(known, number, i) in gone]
        tasks = await self._advancer.maps.children(trip, number, to_push, reader)
        if tasks:
            await self._broker.push(tasks)
        ids = {births.node_id(known, number, index): index for index in old}
        for task_id, final in (await finals(self._broker, list(ids))).items():
            trip.take(Ended(known.run.flow, number, ids[task_id], final.state))
