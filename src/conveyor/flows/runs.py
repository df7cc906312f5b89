"""Runs in the store: documents for the run and its graph, and what a process keeps of them.

A run is three documents: `workflow` (what changes), `workflow-graph` (what does not), and while it
is not over a mark of kind `workflow-active`, which is what the keeper goes through.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from conveyor.core import graph as graphs
from conveyor.core import run as runs
from conveyor.core.advance import Plan
from conveyor.core.errors import WorkflowNotFound
from conveyor.flows.keying import Code

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.advance import Keys
    from conveyor.core.clock import Clock
    from conveyor.core.graph import Graph
    from conveyor.core.run import Run

RUN, GRAPH, ACTIVE, NOTE, SIGNAL = (
    "workflow",
    "workflow-graph",
    "workflow-active",
    "workflow-note",
    "workflow-signal",
)
FRESH = 0.5
"""Seconds a worker trusts what it read of a run: so late it may learn of a cancellation."""
MAX_KEPT = 200_000
"""Nodes of all graphs that one process keeps decoded."""


class Rerun:
    """Of which start each child of a mapped node is, when not all of them were started anew."""

    __slots__ = ("_first", "_later", "chain", "todo")

    def __init__(self, chain: tuple[int, ...], started: Sequence[Iterable[str]]) -> None:
        self.chain = chain
        """All generations of the node that still count, the oldest first."""
        self._first = chain[0]
        self._later: dict[int, int] = {}
        self.todo: list[int] = []
        """The children of the newest generation."""
        for generation, members in zip(chain[1:], started, strict=True):
            self.todo = sorted(map(int, members))
            self._later |= dict.fromkeys(self.todo, generation)

    def generation(self, index: int) -> int:
        """Return the generation of one child."""
        return self._later.get(index, self._first)


async def read_rerun(broker: Broker, keys: Keys, node: int, chain: tuple[int, ...]) -> Rerun:
    """Read which children of a mapped node were started anew in each generation of a chain."""
    members = [await broker.tallies.members(keys.rerun(node, number)) for number in chain[1:]]
    return Rerun(chain, members)


class Known:
    """A run as this process knows it."""

    __slots__ = ("items", "plan", "read_at", "reruns", "run", "version")

    def __init__(self, run: Run, version: int, plan: Plan, read_at: float) -> None:
        self.run = run
        self.version = version
        self.plan = plan
        self.read_at = read_at
        self.items: dict[int, list[bytes] | range] = {}
        """The lists that its mapped nodes map over."""
        self.reruns: dict[int, Rerun] = {}
        """Mapped nodes of which only some children were started anew."""

    def generation(self, node: int, index: int = 0) -> int:
        """Which start of a node, or of a child of a mapped node, is the one that counts."""
        if node in self.reruns:
            return self.reruns[node].generation(index)
        return self.run.generations.get(node, 0)

    def first_child(self, node: int) -> int:
        """The child that this start of a mapped node runs first; 0 for other nodes."""
        return self.reruns[node].todo[0] if node in self.reruns and self.reruns[node].todo else 0

    def todo(self, node: int) -> Sequence[int]:
        """The children of a mapped node that this start of it runs, by index. Its items must be
        known."""
        if node in self.reruns:
            return self.reruns[node].todo
        return range(len(self.items[node]))


class Runs:
    """The runs of a store, with a bounded memory of their graphs; `code` is what this process can
    tell of their tasks."""

    def __init__(self, broker: Broker, clock: Clock, code: Code | None = None) -> None:
        self.broker = broker
        self.clock = clock
        self.code = code or Code()
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._nodes = 0

    async def create(self, run: Run, graph: Graph) -> Known:
        """Store a run and its graph; again is a no-op. The mark comes first: whatever a kill
        leaves, the keeper finds and completes or clears it.
        """
        documents = self.broker.documents
        await documents.put(ACTIVE, run.id, b"", 0)
        await documents.put(GRAPH, run.id, graphs.encode(graph), 0)
        await documents.put(RUN, run.id, runs.encode(run), 0)
        return self._keep(Known(run, 1, Plan(graph), self.clock.monotonic()))

    async def load(self, run_ids: Iterable[str], *, fresh: float = FRESH) -> dict[str, Known]:
        """Return those runs that exist, read not longer than `fresh` seconds ago."""
        now = self.clock.monotonic()
        found: dict[str, Known] = {}
        stale = []
        for run_id in dict.fromkeys(run_ids):
            known = self._known.get(run_id)
            if known is not None and now - known.read_at < fresh:
                found[run_id] = known
            else:
                stale.append(run_id)
        if stale:
            found |= await self._read(stale, now)
        return found

    async def glance(self, run_id: str) -> Run:
        """Return a run without its graph, which may be large. Raises `WorkflowNotFound`."""
        found = await self.broker.documents.get(RUN, [run_id])
        if run_id not in found:
            raise WorkflowNotFound(run_id)
        return runs.decode(found[run_id].body)

    async def get(self, run_id: str) -> Known:
        """Return a run as it is now. Raises `WorkflowNotFound`."""
        found = await self.load([run_id], fresh=0.0)
        if run_id not in found:
            raise WorkflowNotFound(run_id)
        return found[run_id]

    async def change(self, run_id: str, change: Callable[[Run], Run | None]) -> Run:
        """Replace a run by what `change` makes of it, whoever else changes it meanwhile; None from
        it changes nothing. Returns the run as it is then. Raises `WorkflowNotFound`.
        """
        fresh = FRESH
        while True:
            known = (await self.load([run_id], fresh=fresh)).get(run_id)
            if known is None:
                raise WorkflowNotFound(run_id)
            after = change(known.run)
            if after is None:
                return known.run
            version = await self.broker.documents.put(
                RUN, run_id, runs.encode(after), known.version
            )
            if version is not None:
                await self._renew(known, after, version)
                return after
            fresh = 0.0

    async def _read(self, run_ids: list[str], now: float) -> dict[str, Known]:
        documents = self.broker.documents
        stored = await documents.get(RUN, run_ids)
        missing = [run_id for run_id in stored if run_id not in self._known]
        graphs_found = await documents.get(GRAPH, missing) if missing else {}
        found: dict[str, Known] = {}
        for run_id in run_ids:
            document, known = stored.get(run_id), self._known.get(run_id)
            if document is None:
                self._forget(run_id)
            elif known is not None:
                if known.version != document.version:
                    await self._renew(known, runs.decode(document.body), document.version)
                known.read_at = now
                self._known.move_to_end(run_id)
                found[run_id] = known
            elif run_id in graphs_found:
                plan = Plan(graphs.decode(graphs_found[run_id].body))
                run = runs.decode(document.body)
                found[run_id] = self._keep(Known(run, document.version, plan, now))
                if run.reruns:
                    await self._read_reruns(found[run_id])
        return found

    async def _renew(self, known: Known, run: Run, version: int) -> None:
        if run.generations != known.run.generations:
            # What a node maps over may have been made anew.
            known.items.clear()
        known.run, known.version = run, version
        await self._read_reruns(known)

    async def _read_reruns(self, known: Known) -> None:
        run = known.run
        found = {}
        for node, earlier in run.reruns.items():
            chain = (*earlier, run.generations.get(node, 0))
            old = known.reruns.get(node)
            if old is None or old.chain != chain:
                old = await read_rerun(self.broker, run.keys, node, chain)
            found[node] = old
        known.reruns = found

    def _keep(self, known: Known) -> Known:
        self._forget(known.run.id)
        self._known[known.run.id] = known
        self._nodes += known.plan.end
        while self._nodes > MAX_KEPT and len(self._known) > 1:
            self._forget(next(iter(self._known)))
        return known

    def _forget(self, run_id: str) -> None:
        known = self._known.pop(run_id, None)
        if known is not None:
            self._nodes -= known.plan.end
