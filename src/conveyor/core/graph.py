"""The graph of a workflow: immutable nodes, what each waits for, and what makes a graph valid.

A node's parents come before it, so the order of the nodes is an order in which they may run, and
a cycle cannot be written down. The graph is stored with the run, as plain data: whoever advances a
run (a worker, a keeper without the user's code, the command line) needs nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from conveyor.core import condition, defaults, template
from conveyor.core.condition import INPUT
from conveyor.core.errors import InvalidWorkflow
from conveyor.core.options import is_line
from conveyor.core.task import Terms

MAX_NODES, MAX_EDGES, MAX_DEPTH = 50_000, 200_000, 10_000
"""Of one graph; depth is the longest way from a root. (A mapped node is one node.)"""
MAX_NAME = 100
MAX_WINDOW = 10_000
MODES = ("success", "optional", "end", "failure")
"""What an edge asks of the parent: that it succeeded; that it succeeded or was skipped; that it
ended, however; that it failed or was cancelled (of several such edges, one is enough)."""
KINDS = ("task", "map", "reduce", "sleep", "signal", "flow")
KEPT = 7 * 86_400.0
"""Seconds that results are kept at least which other nodes, or whoever waits for the run, use."""
NO_ARGUMENTS = b"\x92\x90\x80"


class Edge(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A node waits for `parent`."""

    parent: int
    mode: str = "success"


class Lot(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """How the tasks of a node are enqueued: what `with_options` says, shared by many nodes."""

    queue: str = defaults.QUEUE
    priority: int = defaults.PRIORITY
    max_attempts: int = defaults.MAX_ATTEMPTS
    retry_base: float = defaults.RETRY_BASE
    retry_cap: float = defaults.RETRY_CAP
    timeout: float | None = None
    result_ttl: float = defaults.RESULT_TTL
    delay: float | None = None
    headers: dict[str, str] = {}
    version: int = 1
    """Of the task definition that the arguments are for."""
    terms: Terms | None = None
    """Its limits and its turn."""
    keyed: bool = False
    """They go by arguments: the task's code tells them, when the arguments are known."""


class Node(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One node. What fields mean by kind is said with them; `task` is always what runs."""

    name: str
    kind: str = "task"
    task: str = ""
    lot: int = 0
    """Number of its `Lot` in the graph."""
    payload: bytes = NO_ARGUMENTS
    """Template of the arguments (`conveyor.core.template`); of a map, those of one child."""
    edges: tuple[Edge, ...] = ()
    when: Any = None
    """Condition (`conveyor.core.condition`), or None."""
    items: bytes = b""
    """map: template of the list to map over, or of a number n for 0 … n-1."""
    window: int = 0
    """map: children in flight at a time."""
    seconds: float | None = None
    """sleep: how long; signal: how long to wait at most."""
    signal: str = ""
    """signal: its name."""
    first: bool = False
    """It runs at the first failure among its parents, without waiting for the others."""
    streams: bool = False
    """reduce: it reads the results page by page, whatever their size."""
    graph: Graph | None = None
    """flow: the graph that it runs; the payload is its inputs."""
    fail_fast: bool = False
    """map: the first child that fails stops the others."""

    @property
    def references(self) -> set[int]:
        """Numbers of the nodes (and `INPUT`) whose results its arguments hold."""
        found = template.references(self.payload)
        if self.items:
            found += template.references(self.items)
        return {number for number, _ in found if number != template.ITEM}

    @property
    def inputs(self) -> set[Any]:
        """The first keys of what it uses of the run's inputs."""
        found = template.references(self.payload)
        if self.items:
            found += template.references(self.items)
        paths = [path for number, path in found if number == INPUT]
        if self.when is not None:
            paths += condition.paths_of(self.when, INPUT)
        return {path[0] for path in paths if path}

    @property
    def conditional_on(self) -> set[int]:
        """Numbers of the nodes whose results its condition looks at."""
        return set() if self.when is None else condition.nodes_of(self.when)


class Graph(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A workflow: its nodes in an order in which they may run."""

    name: str
    nodes: tuple[Node, ...]
    lots: tuple[Lot, ...] = (Lot(),)
    result: int | None = None
    """The node whose result is the run's; None: the last one, or of several last ones each."""

    @property
    def sinks(self) -> list[int]:
        """Numbers of the nodes that nobody waits for."""
        parents = {edge.parent for node in self.nodes for edge in node.edges}
        return [number for number in range(len(self.nodes)) if number not in parents]


def encode(graph: Graph) -> bytes:
    """Return the graph as bytes."""
    return msgspec.msgpack.encode(graph)


decode = msgspec.msgpack.Decoder(Graph).decode


def successor_id(run_id: str, node: int, index: int = 0, generation: int = 0) -> str:
    """Return the id of a node's task (UUIDv8, RFC 9562): the run's millisecond, then a hash.

    The same node always gets the same id, so pushing it again changes nothing; a node that is
    retried gets a new generation and with it a new id.
    """
    seed = f"{run_id}/{node}/{index}/{generation}".encode()
    digest = blake2b(seed, digest_size=10).hexdigest()
    variant = "89ab"[int(digest[18], 16) & 3]
    return f"{run_id[:13]}-8{digest[:3]}-{variant}{digest[3:6]}-{digest[6:18]}"


def check(graph: Graph) -> None:
    """Raise `InvalidWorkflow`, in a sentence that names the node, for a graph that cannot run."""
    if not graph.nodes:
        raise InvalidWorkflow(f"workflow {graph.name!r} has no nodes: add one with flow.add(task)")
    if len(graph.nodes) > MAX_NODES:
        raise InvalidWorkflow(
            f"workflow {graph.name!r} has {len(graph.nodes):,} nodes and the limit is "
            f"{MAX_NODES:,}: map over a list instead, it counts as one"
        )
    if not is_line(graph.name):
        raise InvalidWorkflow(f"workflow {graph.name!r}: a name is one line of text")
    names: dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        for complaint in _complaints(graph, number, node):
            raise InvalidWorkflow(f"node {node.name!r} of workflow {graph.name!r}: {complaint}")
        if names.setdefault(node.name, number) != number:
            raise InvalidWorkflow(
                f"two nodes of workflow {graph.name!r} are named {node.name!r}: "
                "give one of them another with .named(…)"
            )
    _check_size(graph)


def arranged(graph: Graph) -> Graph:
    """Return the graph with its nodes in an order in which they may run.

    Raises `InvalidWorkflow` for a cycle, naming the nodes on it.
    """
    order = _order(graph)
    if order == list(range(len(order))):
        return graph
    place = {number: at for at, number in enumerate(order)}

    def move(number: int) -> int:
        return place.get(number, number)

    nodes = []
    for number in order:
        node = graph.nodes[number]
        changes: dict[str, Any] = {
            "edges": tuple(Edge(move(edge.parent), edge.mode) for edge in node.edges),
            "payload": template.moved(node.payload, move),
        }
        if node.items:
            changes["items"] = template.moved(node.items, move)
        if node.when is not None:
            changes["when"] = condition.moved(node.when, move)
        nodes.append(msgspec.structs.replace(node, **changes))
    result = None if graph.result is None else move(graph.result)
    return msgspec.structs.replace(graph, nodes=tuple(nodes), result=result)


def _order(graph: Graph) -> list[int]:
    """Sort the nodes behind their parents; what is in order already stays where it is."""
    waiting = [len(node.edges) for node in graph.nodes]
    children: list[list[int]] = [[] for _ in graph.nodes]
    for number, node in enumerate(graph.nodes):
        for edge in node.edges:
            if not 0 <= edge.parent < len(graph.nodes):
                raise InvalidWorkflow(
                    f"node {node.name!r} of workflow {graph.name!r} waits for a node that is not "
                    "there"
                )
            children[edge.parent].append(number)
    free = [number for number, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while free:
        number = heapq.heappop(free)
        order.append(number)
        for child in children[number]:
            waiting[child] -= 1
            if waiting[child] == 0:
                heapq.heappush(free, child)
    if len(order) < len(graph.nodes):
        raise InvalidWorkflow(
            f"workflow {graph.name!r} has a cycle: {' → '.join(_cycle(graph, waiting))}"
        )
    return order


def _cycle(graph: Graph, waiting: list[int]) -> list[str]:
    """Walk from parent to parent among the nodes that never become free, until one comes again."""
    number = next(n for n, count in enumerate(waiting) if count)
    path: list[int] = []
    while number not in path:
        path.append(number)
        number = next(e.parent for e in graph.nodes[number].edges if waiting[e.parent])
    cycle = [*path[path.index(number) :], number]
    return [graph.nodes[n].name for n in reversed(cycle)]


def _complaints(graph: Graph, number: int, node: Node) -> Iterator[str]:
    if not node.name or len(node.name) > MAX_NAME:
        yield f"a name has from 1 to {MAX_NAME} characters"
    if not is_line(node.name) or not is_line(node.signal):
        yield f"the name {node.signal or node.name!r} is not one line of text"
    if node.kind not in KINDS:
        yield f"kind {node.kind!r} is none of {', '.join(KINDS)}"
    if not 0 <= node.lot < len(graph.lots):
        yield f"it names options number {node.lot}, which are not there"
    parents = [edge.parent for edge in node.edges]
    if any(not 0 <= parent < number for parent in parents):
        yield "it waits for a node that does not come before it"
    elif len(set(parents)) != len(parents):
        yield "it waits for the same node twice"
    for mode in {edge.mode for edge in node.edges}.difference(MODES):
        yield f"edge mode {mode!r} is none of {', '.join(MODES)}"
    yield from _complaints_of_values(graph, node, set(parents))
    yield from _complaints_of_kind(node)


def _complaints_of_kind(node: Node) -> Iterator[str]:
    if node.kind == "map" and not 1 <= node.window <= MAX_WINDOW:
        yield f"window={node.window}: from 1 to {MAX_WINDOW:,} children in flight"
    if node.kind in {"task", "map", "reduce"} and not node.task:
        yield "it names no task"
    if not node.task.isprintable():
        yield f"task {node.task[:80]!r}: a name has printable characters only"
    if node.kind == "flow" and node.graph is None:
        yield "it has no graph to run"


def _complaints_of_values(graph: Graph, node: Node, parents: set[int]) -> Iterator[str]:
    looked_at = node.references | node.conditional_on
    if node.when is not None:
        condition.check(node.when)
        looked_at |= condition.nodes_of(node.when, "state")
    if strangers := looked_at - parents - {INPUT}:
        known = [graph.nodes[n].name for n in sorted(strangers) if 0 <= n < len(graph.nodes)]
        yield f"it uses the result of {', '.join(known) or 'a node'} that it does not wait for"
        return
    mapped = {n for n in parents if graph.nodes[n].kind == "map"}
    paths = template.references(node.payload)
    if mapped & node.conditional_on or any(n in mapped and path for n, path in paths):
        yield "the results of a map are many: reduce them first"
    if node.items and mapped & {n for n, _ in template.references(node.items)}:
        yield "it maps over the results of a map: reduce them to a list first"
    if node.kind == "map" and mapped & {n for n, _ in paths}:
        yield "each of its children would get all the results of a map: reduce them first"
    if node.first and (looked_at or any(edge.mode != "failure" for edge in node.edges)):
        yield "what runs at the first failure can depend on nothing but failures"
    if node.graph is not None:
        check(node.graph)


def _check_size(graph: Graph) -> None:
    depths: list[int] = []
    edges = 0
    for node in graph.nodes:
        edges += len(node.edges)
        depths.append(1 + max((depths[edge.parent] for edge in node.edges), default=0))
    if edges > MAX_EDGES:
        raise InvalidWorkflow(
            f"workflow {graph.name!r} has {edges:,} edges and the limit is {MAX_EDGES:,}: "
            "put a node between its layers"
        )
    if max(depths) > MAX_DEPTH:
        raise InvalidWorkflow(
            f"workflow {graph.name!r} is {max(depths):,} nodes deep, the limit is {MAX_DEPTH:,}"
        )
    if graph.result is not None and not 0 <= graph.result < len(graph.nodes):
        raise InvalidWorkflow(f"the result of workflow {graph.name!r} is none of its nodes")
