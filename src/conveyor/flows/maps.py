"""Mapped nodes: which children to start, and when the node has ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from conveyor.core import advance
from conveyor.core.task import NewTask, State
from conveyor.flows import births
from conveyor.flows.keying import CannotStart
from conveyor.flows.runs import NOTE
from conveyor.flows.stopping import cancelled

if TYPE_CHECKING:
    from conveyor.flows.results import Reader
    from conveyor.flows.runs import Runs
    from conveyor.flows.trip import Trip


class Maps:
    """What the advancer does for mapped nodes."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._broker = runs.broker

    async def open(self, trip: Trip, number: int, reader: Reader) -> list[NewTask]:
        """Return the first children of a node that may run. Raises `CannotStart`."""
        node = trip.known.plan.graph.nodes[number]
        trip.known.items[number] = births.items_of(node, reader.lookup(trip, number))
        todo = trip.known.todo(number)
        if not todo:
            trip.end(number, State.SUCCEEDED)
        first = advance.window(len(todo), node.window, 0, node.window)
        return await self.children(trip, number, [todo[at] for at in first], reader)

    async def grow(self, trip: Trip, reader: Reader) -> list[NewTask]:
        """Return the next children of the nodes whose children ended, or end the node."""
        tasks: list[NewTask] = []
        grown, arrived, broken = trip.wave.grown, trip.arrived, trip.broken
        trip.wave.grown, trip.arrived, trip.broken = {}, {}, set()
        for node, count in grown.items():
            if not await self.has_items(trip, node, reader):
                continue
            todo = trip.known.todo(node)
            if count >= len(todo):
                trip.end(node, await self._end(trip, node))
            elif node in broken or await self._has_failed(trip, node):
                await self._stop(trip, node, todo)
            elif not trip.wave.cancelled:
                width = trip.known.plan.graph.nodes[node].window
                next_ = advance.window(len(todo), width, count, arrived.get(node, count))
                tasks += await self.children(trip, node, [todo[at] for at in next_], reader)
        return tasks

    async def has_items(self, trip: Trip, number: int, reader: Reader) -> bool:
        """Learn what a node maps over; one of which that cannot be learnt has failed."""
        if number in trip.known.items:
            return True
        await reader.read([(trip, number)])
        node = trip.known.plan.graph.nodes[number]
        try:
            trip.known.items[number] = births.items_of(node, reader.lookup(trip, number))
        except CannotStart as exc:
            await self.fail(trip, number, str(exc))
            return False
        return True

    async def children(
        self, trip: Trip, number: int, indexes: Iterable[int], reader: Reader
    ) -> list[NewTask]:
        """Return children of a node; one that cannot start has failed."""
        known = trip.known
        if known.plan.references[number]:
            await reader.read([(trip, number)])
        now, code = self._runs.clock.time(), self._runs.code
        make = births.child_maker(known, number, reader.lookup(trip, number), now)
        tasks = []
        for index in indexes:
            try:
                tasks.append(births.admitted(code, known, number, index, make(index)))
            except CannotStart as exc:
                await self._note(trip, number, f"child {index}: {exc}")
                trip.child(number, index, State.FAILED)
        return tasks

    async def fail(self, trip: Trip, number: int, why: str) -> None:
        """End a node that cannot start."""
        await self._note(trip, number, why)
        trip.end(number, State.FAILED)

    async def _stop(self, trip: Trip, node: int, todo: Sequence[int]) -> None:
        """Stop the children of a node that fails with the first of them. What runs ends by itself
        soon, and with the last of it the node; what was not begun counts as ended from now on, so
        that nobody begins it."""
        known, key = trip.known, trip.wave.keys.join(node, "*")
        ended = set(map(int, await self._broker.tallies.members(key)))
        begun = known.plan.graph.nodes[node].window + len(ended)
        ids = {births.node_id(known, node, i): i for i in todo[:begun] if i not in ended}
        reason = f"another child of {known.plan.graph.nodes[node].name} failed"
        states = await cancelled(
            self._broker, {i: births.placeholder(known, node, n) for i, n in ids.items()}, reason
        )
        for task_id, state in states.items():
            if state.is_final:
                trip.child(node, ids[task_id], state)
        for index in todo[begun:]:
            if index not in ended:
                trip.child(node, index, State.CANCELLED)

    async def _has_failed(self, trip: Trip, node: int) -> bool:
        """Whether a child has failed of a node that fails with the first of them. Whoever saw it
        stops the children that could have begun by then; who lets others begin looks here after its
        own ends are on record, so either the one knows of them or the other of the failure.
        """
        if not trip.known.plan.graph.nodes[node].fail_fast:
            return False
        return bool(await self._broker.tallies.members(trip.wave.keys.join(node, "!")))

    async def _note(self, trip: Trip, number: int, why: str) -> None:
        note = f"{trip.known.run.id}/{number}"
        await self._broker.documents.put(NOTE, note, why.encode(), 0)

    async def _end(self, trip: Trip, node: int) -> State:
        bad = await self._broker.tallies.members(trip.wave.keys.join(node, "!"))
        if not bad:
            return State.SUCCEEDED
        return State.CANCELLED if trip.wave.cancelled else State.FAILED
