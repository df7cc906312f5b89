"""One run on its way through one call of the advancer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from conveyor.core.advance import Wave
from conveyor.core.task import State
from conveyor.flows.runs import Known


class Ended(NamedTuple):
    """A task of a workflow that ended."""

    flow: str
    node: int
    child: int
    """Which child of a mapped node."""
    state: State
    result: bytes | None = None


class Trip:
    """A run, what ended in it just now, and what was read of it on the way."""

    def __init__(self, known: Known, states: Mapping[int, State] | None = None) -> None:
        self.known = known
        self.wave = Wave(known.plan, known.run.keys, cancelled=known.run.cancel is not None)
        self.states: dict[int, State] = dict(states or {})
        """How parents ended, as far as it is known."""
        self.whole = states is not None
        """Whether `states` has every node that ended."""
        self.results: dict[int, bytes] = {}
        self.lost: dict[int, str] = {}
        """Why the results of a node cannot be had."""
        self.children: list[tuple[int, int, State]] = []
        self.arrived: dict[int, int] = {}
        """Children of each mapped node that ended just now."""
        self.broken: set[int] = set()
        """Mapped nodes that fail with the first of their children, and one has failed."""

    def end(self, node: int, state: State) -> None:
        """A node ended."""
        self.states[node] = state
        self.wave.end(node, state)

    def child(self, node: int, index: int, state: State) -> None:
        """A child of a mapped node ended."""
        self.children.append((node, index, state))
        if state is not State.SUCCEEDED and self.known.plan.graph.nodes[node].fail_fast:
            self.broken.add(node)
        self.arrived[node] = self.arrived.get(node, 0) + 1

    @property
    def has_news(self) -> bool:
        """Whether there is something to spread."""
        return self.wave.has_news or bool(self.children)

    def take(self, entry: Ended) -> None:
        """A task ended."""
        if not 0 <= entry.node < self.known.plan.end:
            return
        if self.known.plan.graph.nodes[entry.node].kind == "map":
            self.child(entry.node, entry.child, entry.state)
            return
        self.end(entry.node, entry.state)
        if entry.result is not None:
            self.results[entry.node] = entry.result
