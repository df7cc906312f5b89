"""What a workflow under construction hands out: nodes, and references to their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, cast

from conveyor.core import graph as graphs
from conveyor.core.condition import Operand
from conveyor.core.errors import InvalidWorkflow

if TYPE_CHECKING:
    from conveyor.core.graph import Lot
    from conveyor.tasks import Enqueuer

T = TypeVar("T")
R = TypeVar("R")
Mode = Literal["success", "optional", "end", "failure"]


class Site(Protocol):
    """The workflow that a node is part of, while it is built."""

    name: str

    def must_own(self, node: Node[Any], /) -> None:
        """Raise `InvalidWorkflow` for a node of another workflow."""

    def rename(self, draft: Draft, name: str, /) -> None:
        """Give a node another name."""

    def reduce(
        self, mapped: MapNode[Any], task: Enqueuer[..., R], mode: Mode, kwargs: Mapping[str, Any], /
    ) -> Node[R]:
        """Add a task that takes all results of a map."""


class Reference(Operand):
    """A node's result, or a part of it, before there is one."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Operand:
        """Fields of a model or dataclass are keys of what is stored."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]


class Draft:
    """A node while its workflow is built: mutable, numbered in the order of adding."""

    def __init__(self, number: int, name: str, kind: str, lot: Lot) -> None:
        self.number = number
        self.name = name
        self.kind = kind
        self.lot = lot
        self.task = ""
        self.payload = graphs.NO_ARGUMENTS
        self.items = b""
        self.edges: dict[int, str] = {}
        self.implied: dict[int, str] = {}
        """Edges by data and by conditions; those that were said win."""
        self.when: Any = None
        self.window = 0
        self.seconds: float | None = None
        self.signal = ""
        self.first = False
        self.streams = False
        self.fail_fast = False
        self.graph: graphs.Graph | None = None
        self.returns: Any = Any

    def finished(self, lot: int) -> graphs.Node:
        """Return the node as it is stored."""
        edges = {**self.implied, **self.edges}
        return graphs.Node(
            self.name,
            self.kind,
            self.task,
            lot,
            self.payload,
            tuple(graphs.Edge(parent, mode) for parent, mode in sorted(edges.items())),
            self.when,
            self.items,
            self.window,
            self.seconds,
            self.signal,
            self.first,
            self.streams,
            self.graph,
            self.fail_fast,
        )


class Node(Generic[T]):
    """A node of a workflow: use its `result` as an argument of a later one, or in a condition."""

    def __init__(self, flow: Site, draft: Draft) -> None:
        self._flow = flow
        self._draft = draft

    @property
    def name(self) -> str:
        """Its name, unique in the workflow."""
        return self._draft.name

    @property
    def result(self) -> T:
        """Stands for the result: pass it on, index it (`result["risk"]`), compare it. To a type
        checker it is the result itself."""
        return cast("T", Reference(("result", self._draft.number)))

    @property
    def state(self) -> Operand:
        """Stands for the state it ends in, to be compared: `node.state == "failed"`."""
        return Operand(("state", self._draft.number))

    @property
    def failed(self) -> Operand:
        """The condition that it failed."""
        return self.state == "failed"

    @property
    def skipped(self) -> Operand:
        """The condition that it was skipped."""
        return self.state == "skipped"

    def after(self, *nodes: Node[Any], mode: Mode = "success") -> Node[T]:
        """Wait for other nodes too, and return this one. `mode` says what each of them must have
        come to: "success"; "optional", success or skipped; "end", any end; "failure", of all such
        nodes at least one failed.
        """
        if mode not in graphs.MODES:
            raise InvalidWorkflow(f"mode={mode!r}: one of {', '.join(graphs.MODES)}")
        for node in nodes:
            self._flow.must_own(node)
            self._draft.edges[node._draft.number] = mode
        return self

    def named(self, name: str) -> Node[T]:
        """Give it another name, and return it."""
        self._flow.rename(self._draft, name)
        return self

    def __repr__(self) -> str:
        return f"<node {self.name} of {self._flow.name}>"


class MapNode(Node[list[T]], Generic[T]):
    """A task run for each item of a list."""

    def reduce(
        self,
        task: Enqueuer[..., R],
        *,
        mode: Mode = "success",
        kwargs: Mapping[str, Any] | None = None,
    ) -> Node[R]:
        """Give all results to one task, as its first argument and in the order of the items.

        With `mode="end"` it also runs when children failed, with the results of the others. A
        parameter annotated `Results[…]` reads them page by page; up to 1,000 results that fit into
        the arguments are a list otherwise.
        """
        return self._flow.reduce(self, task, mode, kwargs or {})
