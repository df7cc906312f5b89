"""Results of nodes on their way to those that use them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core import template
from conveyor.core.codec import MAX_PAYLOAD
from conveyor.core.condition import INPUT
from conveyor.core.errors import TaskNotFound
from conveyor.core.task import State
from conveyor.flows.births import items_of, node_id
from conveyor.flows.keying import CannotStart

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.task import Final
    from conveyor.flows.trip import Trip

PAGE = 1_000
NIL = b"\xc0"
REFERENCE = "$results"
"""Key of the argument that stands for results too many or too large to be passed."""


class Reader:
    """Reads results of nodes, each once for one call."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def read(self, nodes: Iterable[tuple[Trip, int]]) -> None:
        """Fetch the results that these nodes use, those of the batch itself excepted."""
        wanted: dict[str, tuple[Trip, int]] = {}
        for trip, number in nodes:
            node = trip.known.plan.graph.nodes[number]
            for parent in trip.known.plan.uses[number]:
                if parent < 0 or parent in trip.results:
                    continue
                state = trip.states.get(parent, State.SUCCEEDED)
                if trip.known.plan.graph.nodes[parent].kind == "map":
                    await self._read_map(trip, parent, state, streams=node.streams)
                elif state is not State.SUCCEEDED:
                    trip.results[parent] = NIL
                else:
                    wanted[node_id(trip.known, parent)] = (trip, parent)
        for task_id, final in (await finals(self._broker, list(wanted))).items():
            if final.result is not None:
                trip, parent = wanted[task_id]
                trip.results[parent] = final.result

    def lookup(self, trip: Trip, number: int) -> template.Lookup:
        """Return how to find what the node uses; it raises `CannotStart` for what has expired."""

        def find(parent: int) -> bytes:
            if parent == INPUT:
                return trip.known.run.inputs
            if parent in trip.results:
                return trip.results[parent]
            if parent in trip.lost:
                raise CannotStart(trip.lost[parent])
            if trip.states.get(parent, State.SUCCEEDED) is not State.SUCCEEDED:
                return NIL
            name = trip.known.plan.graph.nodes[parent].name
            raise CannotStart(f"the result of {name} has expired: give it a longer result_ttl")

        return find

    def values(self, trip: Trip, number: int) -> Callable[[int], Any]:
        """Return how to find what the node's condition looks at, decoded."""
        find = self.lookup(trip, number)
        return lambda parent: msgspec.msgpack.decode(find(parent))

    async def _read_map(self, trip: Trip, node: int, state: State, *, streams: bool) -> None:
        if state not in {State.SUCCEEDED, State.FAILED}:
            trip.results[node] = NIL
            return
        try:
            trip.results[node] = await self._of_map(trip, node, streams=streams)
        except CannotStart as exc:
            trip.lost[node] = str(exc)

    async def _of_map(self, trip: Trip, node: int, *, streams: bool) -> bytes:
        """Return the list of the children's results, or what stands for it when it is large."""
        known = trip.known
        if node not in known.items:
            await self.read([(trip, node)])
            graph_node = known.plan.graph.nodes[node]
            known.items[node] = items_of(graph_node, self.lookup(trip, node))
        size = len(known.items[node])
        chain = known.reruns[node].chain if node in known.reruns else ()
        generation = known.run.generations.get(node, 0)
        reference = {REFERENCE: [known.run.id, node, generation, size, *chain]}
        if streams or size > PAGE:
            return msgspec.msgpack.encode(reference)
        ids = [node_id(known, node, index) for index in range(size)]
        results = await succeeded(self._broker, ids)
        if sum(map(len, results)) > MAX_PAYLOAD // 2:
            return msgspec.msgpack.encode(reference)
        return msgspec.msgpack.encode([msgspec.Raw(result) for result in results])


async def finals(broker: Broker, ids: Sequence[str]) -> dict[str, Final]:
    """Return what these tasks ended in; those that are not kept any more are left out."""
    found: dict[str, Final] = {}
    for start in range(0, len(ids), PAGE):
        page = list(ids[start : start + PAGE])
        while page:
            try:
                found |= await broker.finals(page)
                break
            except TaskNotFound as exc:
                page.remove(exc.task_id)
    return found


async def absent(broker: Broker, ids: Sequence[str], most: int = 100) -> set[str]:
    """Return those of these tasks that the store does not know. After `most` the rest of a page
    counts as unknown: each costs a round trip.
    """
    missing: set[str] = set()
    for start in range(0, len(ids), PAGE):
        page = list(ids[start : start + PAGE])
        while page:
            try:
                await broker.finals(page)
                break
            except TaskNotFound as exc:
                page.remove(exc.task_id)
                missing.add(exc.task_id)
            if len(missing) >= most:
                missing.update(page)
                break
    return missing


async def succeeded(broker: Broker, ids: Sequence[str]) -> list[bytes]:
    """Return the encoded results of those tasks that succeeded, in their order. Raises
    `CannotStart` when one has expired.
    """
    ended = await finals(broker, ids)
    results = []
    for task_id in ids:
        final = ended.get(task_id)
        if final is None or (final.state is State.SUCCEEDED and final.result is None):
            raise CannotStart(f"the result of child {task_id} has expired")
        if final.state is State.SUCCEEDED and final.result is not None:
            results.append(final.result)
    return results
