"""What follows when nodes of a workflow end: pure, and the same however often it is asked.

A node that ended *arrives* at each of its children, in the child's tally; the child is decided when
all its parents are in it. So the set of finished parents decides, never a counter, and arriving
again changes nothing. One `Wave` carries the arrivals of one run:

    ended nodes ─ spread() ─▶ arrivals ─ tallies.add ─▶ counted() ─▶ ready nodes
         ▲                                                              │ edges and condition
         └────────────────── skipped, cancelled, without tasks ◀────────┴─▶ tasks to push

A kill anywhere in between loses nothing: `frontier` computes from the recorded ends which nodes
should be under way, and whoever finds them not to be goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from conveyor.core.graph import Graph, Node
from conveyor.core.task import State

LETTERS = {
    "s": State.SUCCEEDED,
    "f": State.FAILED,
    "c": State.CANCELLED,
    "k": State.SKIPPED,
}
_LETTER_OF = {state: letter for letter, state in LETTERS.items()}
_RANK = "kcfs"
"""When a node ended twice (a dead letter was requeued by hand), the later letter counts."""
START = ""
"""A member that every tally of ends has: adding it again asks for the size."""
_MET = {
    "success": {State.SUCCEEDED},
    "optional": {State.SUCCEEDED, State.SKIPPED},
    "end": {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SKIPPED},
    "failure": {State.FAILED, State.CANCELLED},
}


def is_met(mode: str, state: State) -> bool:
    """Say whether an edge of this mode is content with how its parent ended."""
    return state in _MET[mode]


def verdict(node: Node, states: Mapping[int, State], *, cancelled: bool = False) -> State | None:
    """Say what the edges make of a node: queued (it may run, if its condition holds), skipped or
    cancelled; None: it waits for a parent.
    """
    ended = [(edge.mode, states.get(edge.parent)) for edge in node.edges]
    failures = [state for mode, state in ended if mode == "failure"]
    if node.first and any(state is not None and is_met("failure", state) for state in failures):
        return State.CANCELLED if cancelled else State.QUEUED
    if any(state is None for _, state in ended):
        return None
    if cancelled:
        return State.CANCELLED
    others = [is_met(mode, state) for mode, state in ended if state and mode != "failure"]
    failed = not failures or any(is_met("failure", state) for state in failures if state)
    return State.QUEUED if all(others) and failed else State.SKIPPED


class Plan:
    """A graph made ready for advancing: built once for each graph a process knows."""

    __slots__ = (
        "children",
        "closing",
        "end",
        "graph",
        "needs_states",
        "references",
        "roots",
        "uses",
    )

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.children: list[list[tuple[int, str]]] = [[] for _ in graph.nodes]
        self.roots: list[int] = []
        self.needs_states: set[int] = set()
        """Children that must know how each parent ended, not only whether all did well."""
        self.references = [frozenset(node.references) for node in graph.nodes]
        self.uses = [
            known | node.conditional_on
            for known, node in zip(self.references, graph.nodes, strict=True)
        ]
        """Nodes whose results are needed to start a node."""
        self.end = len(graph.nodes)
        """Number of the join of the whole run, beyond its nodes."""
        awaited: set[int] = set()
        for number, node in enumerate(graph.nodes):
            if not node.edges:
                self.roots.append(number)
            for edge in node.edges:
                self.children[edge.parent].append((number, edge.mode))
                if not node.first:
                    awaited.add(edge.parent)
            if _needs_states(node, self.uses[number]):
                self.needs_states.add(number)
        self.closing = frozenset(range(len(graph.nodes))) - awaited
        """The run is over when these have ended: all others end before one of them does."""

    def width(self, node: int) -> int:
        """How many arrivals a join waits for."""
        return len(self.closing) if node == self.end else len(self.graph.nodes[node].edges)


def _needs_states(node: Node, uses: frozenset[int]) -> bool:
    return node.when is not None or any(
        edge.mode == "failure" or (edge.mode != "success" and edge.parent in uses)
        for edge in node.edges
    )


class Keys(NamedTuple):
    """The names of a run's tallies."""

    run: str
    generations: Mapping[int, int]

    @property
    def ended(self) -> str:
        """Nodes that ended, and how."""
        return f"flow/{self.run}"

    def generation(self, node: int) -> int:
        """How often the node was started anew."""
        return self.generations.get(node, 0)

    def member(self, node: int, state: State) -> str:
        """The end of a node, as a member of `ended`."""
        generation = self.generation(node)
        return f"{node}{f'.{generation}' if generation else ''}{_LETTER_OF[state]}"

    def join(self, node: int, part: str = "") -> str:
        """Parents of a node that ended (`part` "-": those that did not do well); children of a
        mapped node that ended (`part` "*") or did not succeed ("!").
        """
        return f"flow/{self.run}/{node}.{self.generation(node)}{part}"

    def rerun(self, node: int, generation: int) -> str:
        """Children of a mapped node that were started anew in this generation."""
        return f"flow/{self.run}/{node}.{generation}+"

    def states(self, members: Iterable[str]) -> dict[int, State]:
        """Read the members of `ended`; ends of earlier generations are left out."""
        letters: dict[int, str] = {}
        for member in members:
            if member == START:
                continue
            number, _, generation = member[:-1].partition(".")
            node, letter = int(number), member[-1]
            if int(generation or 0) == self.generation(node):
                letters[node] = max(letters.get(node, letter), letter, key=_RANK.index)
        return {node: LETTERS[letter] for node, letter in letters.items()}


class Wave:
    """What one batch of ended nodes brings about in one run."""

    def __init__(self, plan: Plan, keys: Keys, *, cancelled: bool = False) -> None:
        self.plan = plan
        self.keys = keys
        self.cancelled = cancelled
        self.fates: dict[int, State] = {}
        """Nodes that ended, as far as this wave knows."""
        self.ready: dict[int, None] = {}
        """Nodes whose parents ended: their edges and conditions are to be judged."""
        self.grown: dict[int, int] = {}
        """Mapped nodes with the number of their children that ended."""
        self.over = False
        """Whether every node of the run has ended."""
        self._news: list[int] = []
        self._sent: list[tuple[str, int]] = []

    def end(self, node: int, state: State) -> None:
        """A node ended."""
        if node not in self.fates:
            self.fates[node] = state
            self._news.append(node)

    @property
    def has_news(self) -> bool:
        """Whether there is something to spread."""
        return bool(self._news)

    def spread(self, children: Iterable[tuple[int, int, State]] = ()) -> list[tuple[str, str]]:
        """Return what to add to the tallies for the news; `children` are ends of children of
        mapped nodes (node, index, state). Give the answer to `counted`.
        """
        arrivals: list[tuple[str, str]] = []
        self._sent = []
        for node, index, state in children:
            self._arrive(arrivals, "child", node, self.keys.join(node, "*"), str(index))
            if state is not State.SUCCEEDED:
                self._arrive(arrivals, "", node, self.keys.join(node, "!"), str(index))
        for node in self._news:
            state = self.fates[node]
            self._arrive(arrivals, "", node, self.keys.ended, self.keys.member(node, state))
            for child, mode in self.plan.children[node]:
                self._arrive_at(arrivals, child, mode, node, state)
            if node in self.plan.closing:
                self._arrive(arrivals, "join", self.plan.end, self._end_key, str(node))
        self._news = []
        return arrivals

    @property
    def _end_key(self) -> str:
        # A run that is retried comes to a new end.
        return f"flow/{self.keys.run}/end.{max(self.keys.generations.values(), default=0)}"

    def _arrive_at(
        self, arrivals: list[tuple[str, str]], child: int, mode: str, node: int, state: State
    ) -> None:
        if self.plan.width(child) == 1:
            self.ready[child] = None
            return
        if self.plan.graph.nodes[child].first and mode == "failure" and is_met(mode, state):
            self.ready[child] = None
        if child in self.plan.needs_states:
            key, member = self.keys.join(child), f"{node}{_LETTER_OF[state]}"
        else:
            key, member = self.keys.join(child), str(node)
            if not is_met(mode, state):
                self._arrive(arrivals, "", child, self.keys.join(child, "-"), str(node))
        self._arrive(arrivals, "join", child, key, member)

    def _arrive(
        self, arrivals: list[tuple[str, str]], what: str, node: int, key: str, member: str
    ) -> None:
        arrivals.append((key, member))
        self._sent.append((what, node))

    def counted(self, counts: Sequence[int]) -> None:
        """Take the sizes of the tallies after adding what `spread` returned."""
        for (what, node), count in zip(self._sent, counts, strict=True):
            if what == "child":
                self.grown[node] = count
            elif what == "join" and count >= self.plan.width(node):
                if node == self.plan.end:
                    self.over = True
                else:
                    self.ready[node] = None
        self._sent = []

    def take_ready(self) -> list[int]:
        """Return the nodes to judge."""
        ready = [node for node in self.ready if node not in self.fates]
        self.ready = {}
        return ready


def states_in(members: Iterable[str]) -> dict[int, State]:
    """Read the members of a join that keeps how its parents ended."""
    found: dict[int, str] = {}
    for member in members:
        node, letter = int(member[:-1]), member[-1]
        found[node] = max(found.get(node, letter), letter, key=_RANK.index)
    return {node: LETTERS[letter] for node, letter in found.items()}


def frontier(
    graph: Graph, states: Mapping[int, State], *, cancelled: bool = False
) -> dict[int, State]:
    """Return the nodes that have not ended but whose parents have, with the verdict of their
    edges: these should be under way, or on record as skipped.
    """
    found = {}
    for number, node in enumerate(graph.nodes):
        if number not in states:
            what = verdict(node, states, cancelled=cancelled)
            if what is not None:
                found[number] = what
    return found


def window(size: int, width: int, ended: int, arrived: int) -> range:
    """Return which children of a mapped node to start when `ended` of its `size` children have
    ended, `arrived` of them just now: never more than `width` are in flight.
    """
    last = min(size, width + ended)
    return range(max(0, min(size, width + ended - arrived)), last)


def outcome(graph: Graph, states: Mapping[int, State], *, cancelled: bool) -> State:
    """Say what a run ended in. A failure counts unless an edge of mode failure leads from it."""
    if cancelled:
        return State.CANCELLED
    handled = {e.parent for node in graph.nodes for e in node.edges if e.mode == "failure"}
    loose = {states.get(n) for n in range(len(graph.nodes)) if n not in handled}
    if State.FAILED in loose:
        return State.FAILED
    return State.CANCELLED if State.CANCELLED in loose else State.SUCCEEDED


def descendants(plan: Plan, node: int) -> set[int]:
    """Return the node and all that come after it."""
    found = {node}
    waiting = [node]
    while waiting:
        for child, _ in plan.children[waiting.pop()]:
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


Name = Callable[[int], str]


def waits_for(
    graph: Graph, number: int, states: Mapping[int, State], live: Mapping[int, str]
) -> list[str]:
    """Say in sentences why a node has not started: each parent it waits for, and what would do."""
    reasons = []
    for edge in graph.nodes[number].edges:
        if edge.parent in states:
            continue
        parent = graph.nodes[edge.parent]
        now = live.get(edge.parent, "not started")
        wanted = {
            "success": "succeeds",
            "optional": "succeeds or is skipped",
            "end": "ends",
            "failure": "fails",
        }[edge.mode]
        reasons.append(f"runs when {parent.name} {wanted}; it is {now}")
    return reasons
