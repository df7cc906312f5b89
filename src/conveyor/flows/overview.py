"""A run as people look at it: each node with its state, and why it has that."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core import advance, condition
from conveyor.core.condition import Facts
from conveyor.core.errors import TaskNotFound
from conveyor.core.run import decode as decode_run
from conveyor.core.task import State
from conveyor.flows import births
from conveyor.flows.control import number_of, states_of
from conveyor.flows.keying import CannotStart
from conveyor.flows.reruns import children_ended
from conveyor.flows.results import Reader
from conveyor.flows.runs import NOTE, RUN
from conveyor.flows.trip import Trip

if TYPE_CHECKING:
    from conveyor.core.run import Run
    from conveyor.core.task import TaskInfo
    from conveyor.flows.runs import Known, Runs

_PAGE = 1_000
MOST_LIVE = 200
"""Tasks under way whose exact state is asked for; of more it is said that they are queued."""


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a run."""

    name: str
    kind: str
    task: str = ""
    state: State
    """blocked: it waits for a parent."""
    task_id: str | None = None
    """Of the task that runs it, once there is one; a map has one for each child."""
    parents: tuple[str, ...] = ()
    condition: str | None = None
    reason: str | None = None
    """Why it failed without a task."""
    children: int | None = None
    """Of a map: how many, once that is known."""
    children_ended: int | None = None


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a workflow. What `handle.info()` returns."""

    id: str
    name: str
    status: str
    created_at: float
    finished_at: float | None = None
    cancelled_by: str | None = None
    reason: str | None = None
    counts: dict[str, int] = {}
    """Nodes by state."""
    nodes: tuple[NodeInfo, ...] = ()


async def newest(runs: Runs, limit: int, status: str | None = None) -> list[Run]:
    """Return runs without their nodes, the newest first."""
    found: deque[Run] = deque(maxlen=limit)
    after = ""
    while page := await runs.broker.documents.list(RUN, after=after, limit=_PAGE):
        after = page[-1].id
        each = (decode_run(document.body) for document in page)
        found += [run for run in each if status in {None, run.status}]
    return list(found)[::-1]


async def overview(runs: Runs, run_id: str) -> RunInfo:
    """Return a run with its nodes. Raises `WorkflowNotFound`."""
    known = await runs.get(run_id)
    ended = await states_of(runs, known)
    states = {**ended, **await _live(runs, known, ended)}
    nodes = [await _node(runs, known, number, states) for number in range(known.plan.end)]
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.state] = counts.get(node.state, 0) + 1
    run = known.run
    return RunInfo(
        id=run.id,
        name=run.name,
        status=run.status,
        created_at=run.created_at,
        finished_at=run.finished_at,
        cancelled_by=run.cancel.by if run.cancel else None,
        reason=run.cancel.reason if run.cancel else None,
        counts=counts,
        nodes=tuple(nodes),
    )


async def _live(runs: Runs, known: Known, ended: Mapping[int, State]) -> dict[int, State]:
    """Return the states of nodes under way."""
    if known.run.is_over:
        return {}
    front = advance.frontier(known.plan.graph, ended, cancelled=known.run.cancel is not None)
    live = dict.fromkeys((n for n, what in front.items() if what is State.QUEUED), State.QUEUED)
    asked = [n for n in live if known.plan.graph.nodes[n].kind != "map"][:MOST_LIVE]
    found = await asyncio.gather(*(_info(runs, births.node_id(known, n)) for n in asked))
    for number, info in zip(asked, found, strict=True):
        live[number] = State.BLOCKED if info is None else info.state
    for number in live:
        if known.plan.graph.nodes[number].kind == "map":
            live[number] = State.RUNNING
    return live


async def _info(runs: Runs, task_id: str) -> TaskInfo | None:
    try:
        return await runs.broker.inspector.get(task_id)
    except TaskNotFound:
        return None


async def _node(runs: Runs, known: Known, number: int, states: Mapping[int, State]) -> NodeInfo:
    node = known.plan.graph.nodes[number]
    state = states.get(number, State.BLOCKED)
    begun = state not in {State.BLOCKED, State.SKIPPED}
    extra: dict[str, Any] = {}
    if node.kind == "map" and begun:
        extra["children_ended"] = len(await children_ended(runs, known, number))
        if number in known.items:
            extra["children"] = len(known.items[number])
    if state is State.FAILED:
        notes = await runs.broker.documents.get(NOTE, [f"{known.run.id}/{number}"])
        for note in notes.values():
            extra["reason"] = note.body.decode()
    return NodeInfo(
        name=node.name,
        kind=node.kind,
        task=node.task,
        state=state,
        task_id=births.node_id(known, number) if begun and node.kind != "map" else None,
        parents=tuple(known.plan.graph.nodes[edge.parent].name for edge in node.edges),
        condition=None if node.when is None else condition.text(node.when, _names(known)),
        **extra,
    )


def _names(known: Known) -> Any:
    return lambda n: known.plan.graph.nodes[n].name


async def why(runs: Runs, run_id: str, name: str) -> list[str]:
    """Say in sentences what a node waits for, or why it did not run."""
    known = await runs.get(run_id)
    number = number_of(known, name)
    node = known.plan.graph.nodes[number]
    ended = await states_of(runs, known)
    info = await _info(runs, births.node_id(known, number))
    if info is not None and not info.state.is_final:
        return [_of_task(node.kind, node.signal, info)]
    if number not in ended:
        live = {n: str(state) for n, state in (await _live(runs, known, ended)).items()}
        waits = advance.waits_for(known.plan.graph, number, ended, live)
        return waits or [await _waits_for_code(runs, known, number)]
    reasons = [f"it has {ended[number]}" if ended[number] is not State.SKIPPED else "it is skipped"]
    for edge in node.edges:
        state = ended.get(edge.parent)
        if state is not None and not advance.is_met(edge.mode, state):
            parent = known.plan.graph.nodes[edge.parent].name
            reasons.append(f"its edge from {parent} asks for {edge.mode}, and that has {state}")
    if node.when is not None:
        reasons += await _explained(runs, known, number, ended)
    notes = await runs.broker.documents.get(NOTE, [f"{run_id}/{number}"])
    return reasons + [note.body.decode() for note in notes.values()]


async def _waits_for_code(runs: Runs, known: Known, number: int) -> str:
    """Say what a node waits for whose parents have ended."""
    node = known.plan.graph.nodes[number]
    relay = None
    if known.plan.graph.lots[node.lot].keyed:
        index = 0
        if node.kind == "map":
            ended = await children_ended(runs, known, number)
            index = next(i for i in range(len(ended) + 1) if i not in ended)
        relay = await _info(runs, births.relay_id(known, number, index))
    if relay is None or relay.state is State.SUCCEEDED:
        return (
            "its children are under way"
            if node.kind == "map"
            else "its parents have ended; it is about to start"
        )
    if relay.state.is_final:
        return f"its limits go by its arguments, and could not be told: see task {relay.id}"
    return (
        f"its limits go by its arguments, and are told by a worker that knows {node.task!r}: "
        f"it waits for one (task {relay.id} is {relay.state})"
    )


async def _explained(
    runs: Runs, known: Known, number: int, states: Mapping[int, State]
) -> list[str]:
    node = known.plan.graph.nodes[number]
    trip, reader = Trip(known, states), Reader(runs.broker)
    await reader.read([(trip, number)])
    facts = Facts(reader.values(trip, number), lambda n: str(states.get(n, "")))
    try:
        return [condition.explain(node.when, _names(known), facts)]
    except CannotStart as exc:
        return [str(exc)]


def _of_task(kind: str, signal: str, info: TaskInfo) -> str:
    if kind == "signal" and info.state is State.SCHEDULED:
        return f"it waits for the signal {signal!r}"
    if kind == "sleep" and info.state is State.SCHEDULED:
        return f"it sleeps until {info.due_at:.0f} (epoch seconds)"
    if kind == "flow":
        return "its workflow is running"
    return f"its task {info.id} is {info.state}"
