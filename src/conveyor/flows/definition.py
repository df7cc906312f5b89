"""Workflows as JSON: for the HTTP API and the command line, in and out.

    {"name": "onboard",
     "nodes": [
       {"name": "user",   "task": "shop.create_user", "args": [{"$input": "email"}]},
       {"name": "score",  "task": "shop.score_user",  "args": [{"$result": "user"}]},
       {"name": "review", "task": "shop.review",      "args": [{"$result": "user.id"}],
        "when": "score.result.risk > 70", "after": {"score": "success"}},
       {"name": "invite", "map": "shop.send_invite",  "items": {"$result": "user.contacts"}},
       {"name": "sum",    "reduce": "shop.summarise", "of": "invite"},
       {"name": "nap",    "sleep": 60, "after": ["sum"]},
       {"name": "ok",     "wait_for": "approved", "timeout": 3600, "after": ["nap"]},
       {"name": "ship",   "workflow": {"name": "ship", "nodes": […]},
        "inputs": {"user": {"$result": "user"}}}],
     "result": "sum"}

Nodes wait for what their arguments, items and conditions use, and for those in `after` (a list, or
names with edge modes). Order does not matter. Options: queue, priority, max_attempts, timeout,
result_ttl, delay; of a map: window, fail_fast. A workflow within is a definition of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from conveyor.core import condition, template
from conveyor.core import graph as graphs
from conveyor.core.amounts import seconds
from conveyor.core.condition import INPUT, Operand
from conveyor.core.condition_text import parse
from conveyor.core.errors import InvalidWorkflow
from conveyor.core.graph import Edge, Graph, Lot, Node
from conveyor.core.options import priority_level, queue_name
from conveyor.core.retry import Retry

Known = Mapping[str, Lot]
MAX_BYTES = 4 * 1024 * 1024
"""Size of a definition."""
MAX_NESTING = 50
MAX_WITHIN = 10
"""Workflows within each other."""
WINDOW = 1_000
RESULT, INPUTS, ITEM = "$result", "$input", "$item"
_VERBS = ("task", "map", "reduce", "sleep", "wait_for", "workflow")
_OPTIONS = ("queue", "priority", "max_attempts", "timeout", "result_ttl", "delay")
_OTHERS = (
    *("name", "args", "kwargs", "after", "when", "items", "window", "of", "timeout"),
    *("fail_fast", "inputs"),
)


def load(text: str | bytes, known: Known = {}) -> Graph:  # noqa: B006 - never changed
    """Parse a definition; `known` gives the options of tasks by name. Raises `InvalidWorkflow`,
    saying which node and what of it is wrong.
    """
    if len(text) > MAX_BYTES:
        raise InvalidWorkflow(f"a definition of {len(text):,} bytes: at most {MAX_BYTES:,}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidWorkflow(f"the definition is no JSON: {exc}") from None
    return from_plain(value, known)


def from_plain(value: Any, known: Known = {}, depth: int = 1) -> Graph:  # noqa: B006 - as above
    """Build a graph from a decoded definition. Raises `InvalidWorkflow`."""
    if depth > MAX_WITHIN:
        raise InvalidWorkflow(f"workflows within workflows, {MAX_WITHIN} deep: that is the limit")
    if not isinstance(value, dict) or not isinstance(value.get("nodes"), list):
        raise InvalidWorkflow('a definition is an object with "name" and a list of "nodes"')
    if unknown := set(value) - {"name", "nodes", "result"}:
        raise InvalidWorkflow(f"a definition has no {', '.join(sorted(map(repr, unknown)))}")
    name = value.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= graphs.MAX_NAME:
        raise InvalidWorkflow(f'"name" of a workflow: from 1 to {graphs.MAX_NAME} characters')
    if len(value["nodes"]) > graphs.MAX_NODES:
        raise InvalidWorkflow(f"{len(value['nodes']):,} nodes: at most {graphs.MAX_NODES:,}")
    return _Loader(name, value["nodes"], known, depth).graph(value.get("result"))


class _Loader:
    def __init__(self, name: str, nodes: list[Any], known: Known, depth: int) -> None:
        self._depth = depth
        self._name = name
        self._known = known
        self._nodes = nodes
        self._lots: dict[bytes, int] = {}
        self._stored: list[Lot] = []
        self._numbers: dict[str, int] = {}
        for number, node in enumerate(nodes):
            label = node.get("name") if isinstance(node, dict) else None
            if not isinstance(label, str):
                raise InvalidWorkflow(f'node number {number} of {name!r} has no text as "name"')
            if self._numbers.setdefault(label, number) != number:
                raise InvalidWorkflow(f"two nodes of workflow {name!r} are named {label!r}")

    def graph(self, result: Any) -> Graph:
        """Return the checked graph."""
        nodes = []
        for value in self._nodes:
            try:
                nodes.append(self._node(value))
            except (InvalidWorkflow, ValueError, TypeError) as exc:
                text = f"node {value['name']!r} of workflow {self._name!r}: {exc}"
                raise InvalidWorkflow(text) from None
        number = None if result is None else self._number(result)
        whole = graphs.arranged(Graph(self._name, tuple(nodes), tuple(self._stored), number))
        graphs.check(whole)
        return whole

    def _node(self, value: dict[str, Any]) -> Node:
        verbs = [verb for verb in _VERBS if verb in value]
        if len(verbs) != 1:
            raise InvalidWorkflow(f"exactly one of {', '.join(_VERBS)} says what it does")
        if unknown := set(value) - {*_VERBS, *_OPTIONS, *_OTHERS}:
            raise InvalidWorkflow(f"it has no {', '.join(sorted(unknown))}")
        fields: dict[str, Any] = {"lot": self._lot(value)}
        edges: dict[int, str] = {}
        _FILLERS[verbs[0]](self, value, fields)
        for made in (fields.get("payload", b""), fields.get("items", b"")):
            for parent, _ in template.references(made) if made else ():
                if parent >= 0:
                    edges.setdefault(parent, "success")
        if "when" in value:
            fields["when"] = parse(_text(value, "when"), self._numbers)
            for parent in condition.nodes_of(fields["when"]) - {INPUT}:
                edges.setdefault(parent, "success")
            edges |= dict.fromkeys(condition.nodes_of(fields["when"], "state"), "end")
        edges |= self._after(value.get("after", {}))
        fields["edges"] = tuple(Edge(parent, mode) for parent, mode in sorted(edges.items()))
        return Node(value["name"], **fields)

    def fill_task(self, value: dict[str, Any], fields: dict[str, Any]) -> None:
        """A task, with arguments."""
        fields["task"] = _text(value, "task")
        fields["payload"] = self._payload(value, value.get("args", []))

    def fill_map(self, value: dict[str, Any], fields: dict[str, Any]) -> None:
        """A task for each item."""
        fields |= {"kind": "map", "task": _text(value, "map")}
        fields["payload"] = self._payload(value, value.get("args", [{ITEM: True}]))
        fields["items"] = template.make(
            self._plain(value.get("items"), 0), "items", limit=MAX_BYTES
        )
        fields["window"] = value.get("window", WINDOW)
        if not isinstance(fields["window"], int):
            raise InvalidWorkflow("window: a whole number")
        fields["fail_fast"] = value.get("fail_fast", False)
        if not isinstance(fields["fail_fast"], bool):
            raise InvalidWorkflow("fail_fast: true or false")

    def fill_reduce(self, value: dict[str, Any], fields: dict[str, Any]) -> None:
        """A task that gets all results of a map."""
        fields |= {"kind": "reduce", "task": _text(value, "reduce")}
        arguments = [{RESULT: _text(value, "of")}, *value.get("args", [])]
        fields["payload"] = self._payload(value, arguments)

    def fill_sleep(self, value: dict[str, Any], fields: dict[str, Any]) -> None:
        """A pause."""
        fields |= {"kind": "sleep", "seconds": seconds(value["sleep"], "sleep")}

    def fill_wait(self, value: dict[str, Any], fields: dict[str, Any]) -> None:
        """A wait for a signal."""
        fields |= {"kind": "signal", "signal": _text(value, "wait_for")}
        if value.get("timeout") is not None:
            fields["seconds"] = seconds(value["timeout"], "timeout")

    def fill_workflow(self, value: dict[str, Any], fields: dict[str, Any]) -> None:
        """A workflow of its own."""
        graph = from_plain(value["workflow"], self._known, self._depth + 1)
        fields |= {"kind": "flow", "graph": graph}
        if not isinstance(value.get("inputs", {}), dict):
            raise InvalidWorkflow('"inputs" is an object')
        fields["payload"] = self._payload({"kwargs": value.get("inputs", {})}, [])

    def _payload(self, value: dict[str, Any], args: Any) -> bytes:
        kwargs = value.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise InvalidWorkflow('"args" is a list and "kwargs" an object')
        return template.make((self._plain(args, 0), self._plain(kwargs, 0)), "its arguments")

    def _plain(self, value: Any, depth: int) -> Any:
        """Replace `{"$result": "node.path"}` and its kin by references."""
        if depth > MAX_NESTING:
            raise InvalidWorkflow(f"its arguments are nested deeper than {MAX_NESTING}")
        if isinstance(value, list):
            return [self._plain(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((key, path),) = value.items()
            if key == ITEM:
                return template.ITEM_OPERAND
            if key in {RESULT, INPUTS}:
                return self._reference(key, path)
        return {key: self._plain(item, depth + 1) for key, item in value.items()}

    def _reference(self, key: str, path: Any) -> Operand:
        parts = path if isinstance(path, list) else str(path).split(".")
        if key == INPUTS:
            return Operand(("result", INPUT, *parts))
        return Operand(("result", self._number(parts[0]), *parts[1:]))

    def _number(self, name: Any) -> int:
        if name not in self._numbers:
            raise InvalidWorkflow(f"no node is named {name!r}")
        return self._numbers[name]

    def _after(self, value: Any) -> dict[int, str]:
        if isinstance(value, list):
            return {self._number(name): "success" for name in value}
        if not isinstance(value, dict):
            raise InvalidWorkflow('"after" is a list of names, or an object of names and modes')
        return {self._number(name): str(mode) for name, mode in value.items()}

    def _lot(self, value: Mapping[str, Any]) -> int:
        task = value.get("task") or value.get("map") or value.get("reduce")
        lot = lot_of(value, self._known.get(task) if isinstance(task, str) else None)
        key = msgspec.msgpack.encode(lot)
        if key not in self._lots:
            self._lots[key] = len(self._stored)
            self._stored.append(lot)
        return self._lots[key]


_FILLERS = {
    "task": _Loader.fill_task,
    "map": _Loader.fill_map,
    "reduce": _Loader.fill_reduce,
    "sleep": _Loader.fill_sleep,
    "wait_for": _Loader.fill_wait,
    "workflow": _Loader.fill_workflow,
}


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not found:
        raise InvalidWorkflow(f"{key!r} is a text")
    return found


def lot_of(value: Mapping[str, Any], base: Lot | None = None) -> Lot:
    """Return the options of a node, checked, over those of its task."""
    base = base or Lot()
    fields: dict[str, Any] = {"result_ttl": max(base.result_ttl, graphs.KEPT)}
    if "queue" in value:
        fields["queue"] = queue_name(str(value["queue"]))
    if "priority" in value:
        fields["priority"] = priority_level(value["priority"])
    if "max_attempts" in value:
        fields["max_attempts"] = Retry(max_attempts=value["max_attempts"]).max_attempts
    for key in ("timeout", "result_ttl", "delay"):
        if value.get(key) is not None and not ("wait_for" in value and key == "timeout"):
            fields[key] = seconds(value[key], key)
    return msgspec.structs.replace(base, **fields)
