"""What people do to a run: cancel it, send it a signal, run a part of it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from conveyor.core import advance
from conveyor.core.errors import InvalidWorkflow
from conveyor.core.graph import successor_id
from conveyor.core.task import Pause, State
from conveyor.flows import births
from conveyor.flows.advancer import Advancer
from conveyor.flows.reruns import keep_children
from conveyor.flows.runs import ACTIVE, NOTE, SIGNAL
from conveyor.flows.stopping import cancelled
from conveyor.flows.trip import Trip

if TYPE_CHECKING:
    from conveyor.core.run import Run
    from conveyor.flows.runs import Known, Runs

_PER_CALL = 1_000


async def states_of(runs: Runs, known: Known) -> dict[int, State]:
    """Return how the nodes of a run ended, as far as it is on record."""
    keys = known.run.keys
    return keys.states(await runs.broker.tallies.members(keys.ended))


async def cancel(runs: Runs, run_id: str, *, by: str, reason: str) -> str:
    """Mark a run as cancelled, so that nobody starts another node of it, and stop what is under
    way. Returns its status. What a kill leaves undone the keeper does.
    """

    def mark(run: Run) -> Run | None:
        if run.is_over or run.cancel is not None:
            return None
        return msgspec.structs.replace(run, cancel=Pause(reason, by, runs.clock.time()))

    await runs.change(run_id, mark)
    known = await runs.get(run_id)
    if not known.run.is_over:
        await stop(runs, known, await states_of(runs, known))
        known = await runs.get(run_id)
    return known.run.status


async def stop(
    runs: Runs, known: Known, states: Mapping[int, State], *, for_good: bool = False
) -> None:
    """Cancel the tasks under way of a run that is marked as cancelled, and advance it. `for_good`:
    so long after the mark that nobody starts children of a map any more.
    """
    trip = Trip(known, states)
    nodes = known.plan.graph.nodes
    under_way = {
        number
        for number, what in advance.frontier(known.plan.graph, states).items()
        if what is State.QUEUED
    }
    for number in advance.frontier(known.plan.graph, states, cancelled=True):
        if number not in under_way:
            trip.end(number, State.CANCELLED)
    plain = [number for number in sorted(under_way) if nodes[number].kind != "map"]
    ids = {births.node_id(known, number): number for number in plain}
    placeholders = {task_id: births.placeholder(known, number) for task_id, number in ids.items()}
    reason = known.run.cancel.reason if known.run.cancel is not None else ""
    for task_id, state in (await cancelled(runs.broker, placeholders, reason)).items():
        if state.is_final:
            trip.end(ids[task_id], state)
    for number in under_way.difference(plain):
        await _stop_map(runs, trip, number, for_good=for_good)
    for task_id, number in ids.items():
        if nodes[number].kind == "flow":
            await _stop_inner(runs, known, successor_id(task_id, 0))
    await Advancer(runs.broker, runs.clock, runs).settle([trip])


async def _stop_inner(runs: Runs, known: Known, run_id: str) -> None:
    """Cancel the run of a sub-workflow, if it was begun."""
    cause = known.run.cancel
    if cause is not None and run_id in await runs.load([run_id], fresh=0.0):
        await cancel(runs, run_id, by=cause.by, reason=cause.reason)


async def _stop_map(runs: Runs, trip: Trip, number: int, *, for_good: bool) -> None:
    known, node = trip.known, trip.known.plan.graph.nodes[number]
    ended = set(map(int, await runs.broker.tallies.members(trip.wave.keys.join(number, "*"))))
    begun = len(ended) + node.window
    known_here = number in known.items or number in known.reruns
    todo = known.todo(number)[:begun] if known_here else range(begun)
    ids = {births.node_id(known, number, index): index for index in todo if index not in ended}
    alive = 0
    for page in _pages(list(ids)):
        for task_id, state in (await runs.broker.cancel(page, by="workflow")).items():
            if state.is_final:
                trip.children.append((number, ids[task_id], state))
            else:
                alive += 1
    if for_good and not alive:
        trip.end(number, State.CANCELLED)


def _pages(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _PER_CALL] for start in range(0, len(ids), _PER_CALL)]


async def send(runs: Runs, run_id: str, signal: str, value: bytes) -> bool:
    """Keep a signal and wake who waits for it; says whether it was the first of its name."""
    known = await runs.get(run_id)
    if known.run.is_over:
        return False
    stored = await runs.broker.documents.put(SIGNAL, f"{run_id}/{signal}", value, 0)
    waiting = [
        births.node_id(known, number)
        for number, node in enumerate(known.plan.graph.nodes)
        if node.kind == "signal" and node.signal == signal
    ]
    if waiting:
        await runs.broker.requeue(waiting)
    return stored is not None


async def retry(runs: Runs, run_id: str, name: str | None) -> list[str]:
    """Start a node and all that come after it anew; None: everything that went wrong. Of a mapped
    node that failed, the children that succeeded are kept."""
    known = await runs.get(run_id)
    if not known.run.is_over:
        raise InvalidWorkflow(f"workflow run {run_id} is running: retry a node when it is over")
    states = await states_of(runs, known)
    chosen = _chosen(known, states, name)
    again = set().union(*(advance.descendants(known.plan, number) for number in chosen))
    epoch = known.run.epoch + 1
    reruns = await keep_children(runs, known, states, chosen, again)

    def reopened(run: Run) -> Run | None:
        if not run.is_over or run.epoch + 1 != epoch:
            return None
        return msgspec.structs.replace(
            run,
            status="running",
            finished_at=None,
            counts={},
            cancel=None,
            generations={**run.generations, **dict.fromkeys(again, epoch)},
            reruns=reruns,
        )

    await runs.broker.documents.put(ACTIVE, run_id, b"", 0)
    for number in again:
        await runs.broker.documents.delete(NOTE, f"{run_id}/{number}")
    await runs.change(run_id, reopened)
    known = await runs.get(run_id)
    trip = Trip(known, {n: state for n, state in states.items() if n not in again})
    for number, state in list(trip.states.items()):
        trip.end(number, state)
    trip.wave.ready = {n: None for n in sorted(again) if not known.plan.graph.nodes[n].edges}
    await Advancer(runs.broker, runs.clock, runs).settle([trip])
    return [known.plan.graph.nodes[number].name for number in sorted(again)]


def _chosen(known: Known, states: Mapping[int, State], name: str | None) -> list[int]:
    if name is not None:
        return [number_of(known, name)]
    wrong = {State.FAILED, State.CANCELLED}
    found = [number for number in range(known.plan.end) if states.get(number) in wrong]
    if not found:
        raise InvalidWorkflow(f"nothing of workflow run {known.run.id} failed or was cancelled")
    return found


def number_of(known: Known, name: str) -> int:
    """Return the number of a node. Raises `InvalidWorkflow` when no node has that name."""
    for number, node in enumerate(known.plan.graph.nodes):
        if node.name == name:
            return number
    raise InvalidWorkflow(f"no node of workflow {known.run.name!r} is named {name!r}")
