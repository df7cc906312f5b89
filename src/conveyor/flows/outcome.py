"""What a run comes to: its result, or the failure of its first failed node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from conveyor.client import result_of
from conveyor.core.errors import ResultExpired, TaskCancelled, TaskFailed
from conveyor.core.task import State
from conveyor.flows.births import node_id
from conveyor.flows.results import NIL, REFERENCE, finals
from conveyor.flows.runs import NOTE

if TYPE_CHECKING:
    from conveyor.flows.runs import Known, Runs


async def result_of_run(runs: Runs, known: Known) -> bytes:
    """Return the encoded result of a run that is over: that of its result node, else of its last
    node, or of several last ones by name. Raises `TaskFailed`, `TaskCancelled`, `ResultExpired`.
    """
    graph, run = known.plan.graph, known.run
    members = await runs.broker.tallies.members(run.keys.ended)
    states = run.keys.states(members)
    if run.status != State.SUCCEEDED:
        await raise_failure(runs, known, states)
    wanted = [graph.result] if graph.result is not None else graph.sinks
    results = {}
    ended = await finals(
        runs.broker,
        [node_id(known, n) for n in wanted if _has_task(known, n, states)],
    )
    for number in wanted:
        task_id = node_id(known, number)
        if graph.nodes[number].kind == "map":
            results[number] = msgspec.msgpack.encode({REFERENCE: [run.id, number]})
        elif states.get(number) is not State.SUCCEEDED:
            results[number] = NIL
        elif task_id not in ended:
            raise ResultExpired(task_id)
        else:
            results[number] = result_of(ended[task_id])
    if len(wanted) == 1:
        return results[wanted[0]]
    return msgspec.msgpack.encode(
        {
            graph.nodes[number].name: msgspec.Raw(result)
            for number, result in results.items()
            if states.get(number) is State.SUCCEEDED
        }
    )


def _has_task(known: Known, number: int, states: dict[int, State]) -> bool:
    return known.plan.graph.nodes[number].kind != "map" and states.get(number) is State.SUCCEEDED


async def raise_failure(runs: Runs, known: Known, states: dict[int, State]) -> None:
    """Raise what a run that did not succeed ended in."""
    run, graph = known.run, known.plan.graph
    if run.cancel is not None:
        raise TaskCancelled(run.id, run.cancel.reason)
    for number in sorted(states):
        if states[number] is not State.FAILED:
            continue
        name = graph.nodes[number].name
        notes = await runs.broker.documents.get(NOTE, [f"{run.id}/{number}"])
        for note in notes.values():
            raise TaskFailed(
                run.id, "conveyor.NodeNotStarted", f"node {name}: {note.body.decode()}"
            )
        if graph.nodes[number].kind == "map":
            raise TaskFailed(run.id, "conveyor.MapFailed", f"children of node {name} failed")
        ended = await finals(runs.broker, [node_id(known, number)])
        for final in ended.values():
            result_of(final)
    raise TaskFailed(run.id, "conveyor.WorkflowFailed", f"workflow {run.name} has {run.status}")
