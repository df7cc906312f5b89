"""Advances runs: reads what the pure core needs, stores what it says.

Called by workers with the nodes that just ended, by producers with a new run, by the keeper with
what a crash left behind: always the same steps, each of which may be repeated or interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from conveyor.core import advance
from conveyor.core.advance import START
from conveyor.core.condition import ConditionError, Facts, holds
from conveyor.core.run import parse_flow
from conveyor.core.task import NewTask, State
from conveyor.flows import births
from conveyor.flows.closing import close
from conveyor.flows.keying import CannotStart
from conveyor.flows.maps import Maps
from conveyor.flows.results import Reader
from conveyor.flows.runs import SIGNAL, Known, Runs
from conveyor.flows.trip import Ended, Trip

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock

PER_CALL = 2_000
"""Arrivals in one call."""
AT_A_TIME = 50
"""Runs that are brought to their end side by side."""


class Advancer:
    """Brings runs forward. One for each process; its calls may overlap."""

    def __init__(self, broker: Broker, clock: Clock, runs: Runs | None = None) -> None:
        self.broker = broker
        self.runs = runs or Runs(broker, clock)
        self.maps = Maps(self.runs)
        self._clock = clock

    async def advance(self, ended: Sequence[Ended]) -> int:
        """Do all that follows from these ends; returns how many tasks were pushed."""
        flows = {entry.flow: parse_flow(entry.flow) for entry in ended}
        known = await self.runs.load(run_id for run_id, _ in flows.values())
        late = [i for i, epoch in flows.values() if i in known and known[i].run.epoch < epoch]
        if late:
            known |= await self.runs.load(late, fresh=0.0)
        trips: dict[str, Trip] = {}
        for entry in ended:
            run_id, epoch = flows[entry.flow]
            found = known.get(run_id)
            if found is None or found.run.epoch != epoch or found.run.is_over:
                continue
            if run_id not in trips:
                trips[run_id] = Trip(found)
            trips[run_id].take(entry)
        return await self.settle(list(trips.values()))

    async def start(self, known: Known) -> int:
        """Begin a run: its roots."""
        trip = Trip(known, {})
        trip.wave.ready = dict.fromkeys(known.plan.roots)
        return await self.settle([trip])

    async def start_child(self, trip: Trip, node: int, index: int) -> int:
        """Start one child of a mapped node; returns how many tasks were pushed."""
        reader = Reader(self.broker)
        tasks: list[NewTask] = []
        if await self.maps.has_items(trip, node, reader):
            tasks = await self.maps.children(trip, node, [index], reader)
        if tasks:
            await self.broker.push(tasks)
        return len(tasks) + await self.settle([trip])

    async def settle(self, trips: Sequence[Trip]) -> int:
        """Follow each trip to its end; returns how many tasks were pushed."""
        pushed = 0
        while True:
            await self._arrive(trips)
            reader = Reader(self.broker)
            tasks: list[NewTask] = []
            for trip in trips:
                if trip.wave.grown:
                    tasks += await self.maps.grow(trip, reader)
            ready = [(trip, node) for trip in trips for node in trip.wave.take_ready()]
            tasks += await self._judge(ready, reader)
            pushed += len(tasks)
            if tasks:
                await self.broker.push(tasks)
                await self._look_back(ready)
            if not any(trip.has_news for trip in trips):
                break
        await self._close([trip.known for trip in trips if trip.wave.over])
        return pushed

    async def _close(self, over: Sequence[Known]) -> None:
        for start in range(0, len(over), AT_A_TIME):
            now = self._clock.time()
            await asyncio.gather(
                *(close(self.runs, known, now) for known in over[start : start + AT_A_TIME])
            )

    # -- arrivals

    async def _arrive(self, trips: Sequence[Trip]) -> None:
        arrivals: list[tuple[str, str]] = []
        ends = []
        for trip in trips:
            arrivals += trip.wave.spread(trip.children)
            trip.children = []
            ends.append(len(arrivals))
        counts: list[int] = []
        for start in range(0, len(arrivals), PER_CALL):
            counts += await self.broker.tallies.add(arrivals[start : start + PER_CALL])
        for trip, start, end in zip(trips, [0, *ends], ends, strict=False):
            trip.wave.counted(counts[start:end])

    # -- verdicts

    async def _judge(self, ready: list[tuple[Trip, int]], reader: Reader) -> list[NewTask]:
        """Decide nodes whose parents ended; returns the tasks of those that run."""
        await self._read_states(ready)
        willing: list[tuple[Trip, int]] = []
        for trip, number in ready:
            node = trip.known.plan.graph.nodes[number]
            what = advance.verdict(node, trip.states, cancelled=trip.wave.cancelled)
            if what is State.QUEUED:
                willing.append((trip, number))
            elif what is not None:
                trip.end(number, what)
        await reader.read(willing)
        tasks: list[NewTask] = []
        for trip, number in willing:
            tasks += await self._run(trip, number, reader)
        return tasks

    async def _read_states(self, ready: list[tuple[Trip, int]]) -> None:
        """Learn how the parents of joins ended, as far as the verdict depends on it."""
        plain: list[tuple[Trip, int]] = []
        for trip, number in ready:
            node = trip.known.plan.graph.nodes[number]
            if trip.whole or len(node.edges) < 2:
                continue
            if number in trip.known.plan.needs_states:
                members = await self.broker.tallies.members(trip.wave.keys.join(number))
                trip.states |= advance.states_in(members)
            else:
                plain.append((trip, number))
        if not plain:
            return
        sizes = await self.broker.tallies.add(
            [(trip.wave.keys.join(number, "-"), START) for trip, number in plain]
        )
        for (trip, number), size in zip(plain, sizes, strict=True):
            edges = trip.known.plan.graph.nodes[number].edges
            if size == 1:
                # Every edge is content: which state made it so does not matter here.
                for edge in edges:
                    trip.states.setdefault(edge.parent, State.SUCCEEDED)
            else:
                members = await self.broker.tallies.members(trip.wave.keys.join(number, "-"))
                bad = {int(member) for member in members if member != START}
                for edge in edges:
                    trip.states.setdefault(
                        edge.parent, State.FAILED if edge.parent in bad else State.SUCCEEDED
                    )

    async def _run(self, trip: Trip, number: int, reader: Reader) -> list[NewTask]:
        """Start a node if its condition holds; one that cannot start has failed."""
        node = trip.known.plan.graph.nodes[number]
        lookup = reader.lookup(trip, number)
        try:
            if node.when is not None:
                facts = Facts(reader.values(trip, number), lambda n: str(trip.states.get(n, "")))
                if not holds(node.when, facts):
                    trip.end(number, State.SKIPPED)
                    return []
            if node.kind == "map":
                return await self.maps.open(trip, number, reader)
            new = births.task_of(trip.known, number, lookup, self._clock.time())
            return [births.admitted(self.runs.code, trip.known, number, 0, new)]
        except (ConditionError, CannotStart) as exc:
            await self.maps.fail(trip, number, str(exc))
            return []

    # -- signals

    async def _look_back(self, ready: list[tuple[Trip, int]]) -> None:
        """Wake what waits for a signal that was sent before. (A signal that is sent from now on
        finds the task, which was pushed before this look: none is missed.)
        """
        waits = {
            f"{trip.known.run.id}/{node.signal}": births.node_id(trip.known, number)
            for trip, number in ready
            for node in [trip.known.plan.graph.nodes[number]]
            if node.kind == "signal"
        }
        if waits:
            sent = await self.broker.documents.get(SIGNAL, list(waits))
            if sent:
                await self.broker.requeue([waits[name] for name in sent])
