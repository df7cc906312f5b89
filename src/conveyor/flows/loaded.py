"""A workflow that came as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conveyor.core import template
from conveyor.core.errors import InvalidArguments, InvalidWorkflow
from conveyor.flows.definition import from_plain, load
from conveyor.flows.export import to_plain
from conveyor.flows.handle import WorkflowHandle, begin
from conveyor.flows.lots import Lots

if TYPE_CHECKING:
    from conveyor.core.graph import Graph, Node
    from conveyor.flows.home import Home


class Definition:
    """A workflow from its JSON definition (`conveyor.flows.definition` shows one): check it, run
    it, write it down again."""

    def __init__(self, home: Home, definition: str | bytes | Mapping[str, Any]) -> None:
        self._home = home
        known = Lots(home.definitions)
        if isinstance(definition, Mapping):
            self._graph = from_plain(dict(definition), known)
        else:
            self._graph = load(definition, known)
        self._check_calls(self._graph)
        self.name = self._graph.name

    def graph(self) -> Graph:
        """Return the graph."""
        return self._graph

    def as_plain(self) -> dict[str, Any]:
        """Return the definition as plain data, ready for JSON."""
        return to_plain(self._graph)

    async def enqueue(self, **inputs: Any) -> WorkflowHandle[Any]:
        """Store a run and start its first nodes, as `Workflow.enqueue` does."""
        return await begin(self._home, self._graph, inputs)

    async def enqueue_as(self, run_id: str, /, **inputs: Any) -> WorkflowHandle[Any]:
        """Do what `enqueue` does under an id of one's own (a UUID whose first 48 bits are the
        milliseconds of now): a repeat starts no other run."""
        return await begin(self._home, self._graph, inputs, run_id=run_id)

    def _check_calls(self, graph: Graph) -> None:
        for node in graph.nodes:
            self._check_call(graph, node)
            if node.graph is not None:
                self._check_calls(node.graph)

    def _check_call(self, graph: Graph, node: Node) -> None:
        known = self._home.definitions.get(node.task)
        if known is None:
            return
        args, kwargs = template.decode(node.payload)
        try:
            known.signature.check(tuple(args), kwargs)
        except InvalidArguments as exc:
            raise InvalidWorkflow(f"node {node.name!r} of {graph.name!r}: {exc}") from None
