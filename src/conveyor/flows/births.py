"""From a node that may run to the tasks that run it. Pure: results are handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from conveyor.core import template
from conveyor.core.amounts import MAX_DELAY
from conveyor.core.codec import MAX_PAYLOAD
from conveyor.core.envelope import stamped
from conveyor.core.gates import lane_of
from conveyor.core.graph import NO_ARGUMENTS, successor_id
from conveyor.core.task import NewTask, Task, Terms
from conveyor.flows.keying import CannotStart, Code, Elsewhere

if TYPE_CHECKING:
    from conveyor.core.graph import Lot, Node
    from conveyor.flows.runs import Known

SLEEP, WAIT, FLOW = "conveyor.sleep", "conveyor.wait", "conveyor.flow"
"""Names of the built-in tasks that stand for nodes without a task of the user's."""
_BUILT_IN = {"sleep": SLEEP, "signal": WAIT, "flow": FLOW}
RELAY = "conveyor.keys/"
"""Begin of the name of the built-in task that has the limits of a node told; the name of the node's
task follows."""


def node_id(known: Known, node: int, index: int = 0) -> str:
    """Return the id of a node's task, or of a child of a mapped node."""
    return successor_id(known.run.id, node, index, known.generation(node, index))


def task_of(known: Known, number: int, result: template.Lookup, now: float) -> NewTask:
    """Make the task of a node. Raises `CannotStart`."""
    node = known.plan.graph.nodes[number]
    if node.kind == "signal":
        payload = msgspec.msgpack.encode(([node.signal, node.seconds is None], {}))
        delay = MAX_DELAY if node.seconds is None else node.seconds
        return NewTask(_task(known, number, 0, payload, now), delay)
    payload = node.payload
    if known.plan.references[number]:
        payload = filled(node, result)
    wait = node.seconds if node.kind == "sleep" else known.plan.graph.lots[node.lot].delay
    return NewTask(_task(known, number, 0, payload, now), wait)


def placeholder(known: Known, number: int, index: int = 0) -> NewTask:
    """Make a task that holds the id of a node, or of a child of a mapped node, and never runs: due
    in a year, to be cancelled before."""
    return NewTask(_task(known, number, index, NO_ARGUMENTS, 0.0), MAX_DELAY)


def child_maker(
    known: Known, number: int, result: template.Lookup, now: float
) -> Callable[[int], NewTask]:
    """Return what makes the children of a mapped node, by index. It raises `CannotStart`."""
    node = known.plan.graph.nodes[number]
    items = known.items[number]
    delay = known.plan.graph.lots[node.lot].delay
    one = _one_item(node.payload)

    def make(index: int) -> NewTask:
        item = items[index]
        encoded = item if isinstance(item, bytes) else msgspec.msgpack.encode(item)
        if one:
            payload = b"\x92\x91" + encoded + b"\x80"
        else:
            payload = filled(node, _with_item(encoded, result))
        return NewTask(_task(known, number, index, payload, now), delay)

    return make


def relay_id(known: Known, node: int, index: int = 0) -> str:
    """Return the id of the relay of a node, or of a child of a mapped node."""
    return successor_id(known.run.id, node, -1 - index, known.generation(node, index))


def relay_of(known: Known, number: int, index: int, now: float) -> NewTask:
    """Make the task that has the limits of a node told, by a worker which has its code."""
    node = known.plan.graph.nodes[number]
    lot = known.plan.graph.lots[node.lot]
    payload = msgspec.msgpack.encode(([known.run.flow, number, index], {}))
    return NewTask(
        Task(
            relay_id(known, number, index),
            f"{RELAY}{node.task}",
            lot.queue,
            lot.priority,
            # Of the version that the arguments are for: older code leaves it to newer.
            stamped(payload, lot.version),
            now,
        )
    )


def admitted(code: Code, known: Known, number: int, index: int, new: NewTask) -> NewTask:
    """Return a node's new task with the limits that its code tells, or the relay that will have
    them told. Raises `CannotStart`.
    """
    graph = known.plan.graph
    if not graph.lots[graph.nodes[number].lot].keyed:
        return new
    try:
        terms = code.terms(new.task)
    except Elsewhere:
        return relay_of(known, number, index, new.task.enqueued_at)
    return msgspec.structs.replace(new, task=msgspec.structs.replace(new.task, terms=terms))


def items_of(node: Node, result: template.Lookup) -> list[bytes] | range:
    """Return what a node maps over: encoded items, or a range. Raises `CannotStart`."""
    value = template.fill(node.items, result)
    found = msgspec.msgpack.decode(value)
    if isinstance(found, int) and not isinstance(found, bool):
        return range(max(0, found))
    if isinstance(found, dict) and set(found) == {"range"}:
        return range(*found["range"])
    if not isinstance(found, list):
        raise CannotStart(f"it maps over {type(found).__name__}, which is no list")
    return [bytes(raw) for raw in msgspec.msgpack.decode(value, type=list[msgspec.Raw])]


def filled(node: Node, result: template.Lookup) -> bytes:
    """Return the node's arguments with the results in place. Raises `CannotStart`."""
    payload = template.fill(node.payload, result)
    if len(payload) > MAX_PAYLOAD:
        raise CannotStart(
            f"its arguments take {len(payload):,} bytes with the results of its parents, and the "
            f"limit is {MAX_PAYLOAD:,}: store the data elsewhere and pass a reference"
        )
    return payload


_ONE_ITEM = template.make(([template.ITEM_OPERAND], {}), "item")


def _one_item(payload: bytes) -> bool:
    return payload == _ONE_ITEM


def _with_item(encoded: bytes, result: template.Lookup) -> Callable[[int], bytes]:
    return lambda node: encoded if node == template.ITEM else result(node)


def _task(known: Known, number: int, index: int, payload: bytes, now: float) -> Task:
    node = known.plan.graph.nodes[number]
    lot = known.plan.graph.lots[node.lot]
    run = known.run
    return Task(
        node_id(known, number, index),
        _BUILT_IN.get(node.kind, node.task),
        lot.queue,
        lot.priority,
        stamped(payload, lot.version),
        now,
        lot.max_attempts,
        lot.retry_base,
        lot.retry_cap,
        lot.timeout,
        None,
        None,
        lot.result_ttl,
        lot.headers,
        _terms(lot, run.flow, number, index),
    )


def _terms(lot: Lot, flow: str, number: int, index: int) -> Terms:
    if lot.terms is None:
        return Terms(flow=flow, node=number, index=index)
    gates, fair = lot.terms.gates, lot.terms.fair
    lane = lane_of(lot.priority, gates, None if fair is None else fair.key)
    return Terms(gates, fair, lane, flow=flow, node=number, index=index)
