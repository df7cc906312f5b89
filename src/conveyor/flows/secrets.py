"""Sealed arguments of nodes: sealed before the graph is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core import template
from conveyor.core.envelope import Call, Wrapping, split, wrap
from conveyor.core.errors import InvalidWorkflow
from conveyor.core.task import Task, Terms

if TYPE_CHECKING:
    from conveyor.core.graph import Graph, Node
    from conveyor.flows.keying import Code
    from conveyor.tasks import TaskDefinition


def sealed(graph: Graph, run_id: str, code: Code) -> Graph:
    """Return the graph of a run with the arguments sealed that their tasks want sealed. Raises
    `InvalidWorkflow` for those that cannot be.
    """
    changed: dict[int, Node] = {}
    for number, node in enumerate(graph.nodes):
        definition = code.definitions.get(node.task)
        if definition is not None and definition.encrypt:
            changed[number] = _node(graph, number, run_id, code, definition)
        if node.graph is not None:
            _refuse_within(node.graph, code)
    if not changed:
        return graph
    nodes = tuple(changed.get(number, node) for number, node in enumerate(graph.nodes))
    return msgspec.structs.replace(graph, nodes=nodes)


def _node(
    graph: Graph, number: int, run_id: str, code: Code, definition: TaskDefinition[..., Any, Any]
) -> Node:
    node = graph.nodes[number]
    lot, call = graph.lots[node.lot], split(node.payload)
    _must_be_constant(graph, node, call, definition)
    # Stands for all tasks of the node: which of them it is, is not part of the binding.
    terms = Terms(flow=run_id, node=number)
    stand_in = Task("", node.task, lot.queue, lot.priority, b"", 0.0, terms=terms)
    fields = code.packing.seal(call, stand_in, definition)
    if not fields:
        return node
    payload = wrap(call, Wrapping(lot.version, tuple(fields)))
    return msgspec.structs.replace(node, payload=payload)


def _must_be_constant(
    graph: Graph, node: Node, call: Call, definition: TaskDefinition[..., Any, Any]
) -> None:
    for name in definition.encrypt:
        where = definition.signature.place(name, len(call.args), call.kwargs)
        if where is None:
            continue
        value = call.args[where] if isinstance(where, int) else call.kwargs[where]
        if template.references(bytes(value)):
            raise InvalidWorkflow(
                f"node {node.name!r} of workflow {graph.name!r}: {name!r} is sealed, and what it "
                "gets here (a result, an input, an item of a map) lies in the store in the clear: "
                "give it a value, or pass a reference to where the secret is kept"
            )


def _refuse_within(graph: Graph, code: Code) -> None:
    for node in graph.nodes:
        definition = code.definitions.get(node.task)
        if definition is not None and definition.encrypt:
            raise InvalidWorkflow(
                f"node {node.name!r} of workflow {graph.name!r}: its arguments are sealed, which "
                "they can be in the outermost workflow only"
            )
        if node.graph is not None:
            _refuse_within(node.graph, code)
