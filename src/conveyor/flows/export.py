"""Graphs written down: as JSON that can be loaded again, and as Mermaid pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from conveyor.core import condition, template
from conveyor.core.condition import INPUT
from conveyor.core.envelope import is_wrapped
from conveyor.core.errors import InvalidWorkflow
from conveyor.core.graph import Graph, Node
from conveyor.flows.definition import INPUTS, ITEM, RESULT

_SHAPES = {
    "task": ("[", "]"),
    "map": ("[[", "]]"),
    "reduce": ("[/", "\\]"),
    "sleep": ("([", "])"),
    "signal": ("{{", "}}"),
    "flow": ("[(", ")]"),
}
_ARROWS = {"success": "-->", "optional": "-.->", "end": "==>", "failure": "-- failure -->"}
COLOURS = {
    "succeeded": "#b7e4c7",
    "failed": "#ffccd5",
    "cancelled": "#e9ecef",
    "skipped": "#f8f9fa",
    "running": "#caf0f8",
    "queued": "#fff3bf",
    "scheduled": "#e5dbff",
}


def to_plain(graph: Graph) -> dict[str, Any]:
    """Return the definition of a graph, as plain data. Raises `InvalidWorkflow` for sealed
    arguments."""
    found: dict[str, Any] = {
        "name": graph.name,
        "nodes": [_node(graph, node) for node in graph.nodes],
    }
    if graph.result is not None:
        found["result"] = graph.nodes[graph.result].name
    return found


def _node(graph: Graph, node: Node) -> dict[str, Any]:
    if is_wrapped(node.payload):
        raise InvalidWorkflow(f"node {node.name!r} has sealed arguments: they are not exported")
    found = {"name": node.name, **_call(graph, node)}
    if node.when is not None:
        found["when"] = condition.text(node.when, lambda n: graph.nodes[n].name)
    if node.edges:
        found["after"] = {graph.nodes[edge.parent].name: edge.mode for edge in node.edges}
    return found | _options(graph, node)


def _call(graph: Graph, node: Node) -> dict[str, Any]:
    """Return what the node does, and with which arguments."""
    args, kwargs = _plain(graph, template.decode(node.payload))
    found: dict[str, Any]
    match node.kind:
        case "sleep":
            found = {"sleep": node.seconds}
        case "signal":
            found = {"wait_for": node.signal, "timeout": node.seconds}
        case "map":
            items = _plain(graph, template.decode(node.items))
            found = {"map": node.task, "items": items, "window": node.window, "args": args}
            if node.fail_fast:
                found["fail_fast"] = True
        case "reduce":
            found = {"reduce": node.task, "of": args[0][RESULT][0], "args": args[1:]}
        case "flow" if node.graph is not None:
            return {"workflow": to_plain(node.graph), "inputs": kwargs}
        case _:
            found = {"task": node.task, "args": args}
    return {**found, "kwargs": kwargs} if kwargs else found


def _options(graph: Graph, node: Node) -> dict[str, Any]:
    lot = graph.lots[node.lot]
    found: dict[str, Any] = {
        "queue": lot.queue,
        "priority": lot.priority,
        "max_attempts": lot.max_attempts,
        "result_ttl": lot.result_ttl,
    }
    if node.kind != "signal":
        found["timeout"] = lot.timeout
    if lot.delay is not None:
        found["delay"] = lot.delay
    return found


def _plain(graph: Graph, value: Any) -> Any:
    if isinstance(value, msgspec.msgpack.Ext):
        number, *path = msgspec.msgpack.decode(value.data)
        if number == template.ITEM:
            return {ITEM: True}
        if number == INPUT:
            return {INPUTS: path}
        return {RESULT: [graph.nodes[number].name, *path]}
    if isinstance(value, list):
        return [_plain(graph, item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(graph, item) for key, item in value.items()}
    return value


def to_mermaid(graph: Graph, states: Mapping[str, str] | None = None) -> str:
    """Return the graph as a Mermaid flowchart; `states` colours nodes by name."""
    lines = ["flowchart TD"]
    for number, node in enumerate(graph.nodes):
        left, right = _SHAPES[node.kind]
        label = node.name if states is None else f"{node.name}<br/>{states.get(node.name, '')}"
        lines.append(f"    n{number}{left}{_quoted(label)}{right}")
    for number, node in enumerate(graph.nodes):
        when = ""
        if node.when is not None:
            when = f"|{_quoted(condition.text(node.when, lambda n: graph.nodes[n].name))}|"
        lines += [f"    n{edge.parent} {_ARROWS[edge.mode]}{when} n{number}" for edge in node.edges]
    for state, colour in COLOURS.items() if states else ():
        members = [
            f"n{n}" for n, node in enumerate(graph.nodes) if (states or {}).get(node.name) == state
        ]
        if members:
            lines.append(f"    classDef {state} fill:{colour}")
            lines.append(f"    class {','.join(members)} {state}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    safe = text.replace("&", "&amp;").replace('"', "&quot;").replace("<br/>", "\0")
    safe = safe.replace("<", "&lt;").replace(">", "&gt;").replace("\0", "<br/>")
    return f'"{safe}"'
