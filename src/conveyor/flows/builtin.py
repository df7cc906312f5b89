"""The built-in tasks: sleeping, waiting for a signal, running a sub-workflow.

None of them holds a slot while it waits: it is a scheduled task, due at the end of the wait, and
what it waits for makes it due at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.context import current_task
from conveyor.core.amounts import MAX_DELAY
from conveyor.core.evolution import Evolution
from conveyor.core.graph import successor_id
from conveyor.core.options import Options
from conveyor.core.retry import Retry
from conveyor.core.run import Run, parse_flow
from conveyor.core.signals import Reject, Snooze
from conveyor.core.task import State
from conveyor.flows import births
from conveyor.flows.advancer import Advancer
from conveyor.flows.births import FLOW, RELAY, SLEEP, WAIT
from conveyor.flows.control import states_of
from conveyor.flows.keying import Code
from conveyor.flows.outcome import result_of_run
from conveyor.flows.runs import SIGNAL, Runs
from conveyor.flows.trip import Trip
from conveyor.tasks import TaskDefinition

if TYPE_CHECKING:
    from conveyor.flows.home import Home

_FIRST_LOOK, _LONGEST_PAUSE = 2.0, 60.0


def definitions(app: Home, code: Code) -> dict[str, TaskDefinition[..., Any, Any]]:
    """Return the built-in task definitions of an app whose tasks `code` has, with a relay for each
    of these.
    """

    async def sleep() -> None:
        """Nothing is left to do when its time has come."""

    async def wait(signal: str, for_ever: bool) -> Any:
        """Return the value of the signal; reject when its time has run out."""
        run_id, _ = parse_flow(_terms().flow or "")
        documents = (await app.client()).broker.documents
        found = await documents.get(SIGNAL, [f"{run_id}/{signal}"])
        if found:
            return msgspec.msgpack.decode(found[f"{run_id}/{signal}"].body)
        if for_ever:
            raise Snooze(MAX_DELAY)
        raise Reject(f"no signal {signal!r} came in time")

    async def flow(**inputs: Any) -> Any:
        """Start the sub-workflow once, and return its result when it is over."""
        return await _sub_workflow(app, code, inputs)

    async def relay(flow: str, node: int, index: int) -> None:
        """Start a node, or a child of a mapped node, whose limits only its own code can tell."""
        await _start_node(Runs((await app.client()).broker, app.clock, code), flow, node, index)

    def built_in(name: str, fn: Callable[..., Any], version: int = 1) -> Any:
        return TaskDefinition(
            fn,
            name=name,
            dispatcher=app,
            options=Options(),
            retry=Retry(),
            evolution=Evolution(version=version),
        )

    versions = {definition.version for definition in code.definitions.values()}
    relays = {version: built_in(RELAY, relay, version) for version in versions}
    return {
        name: built_in(name, fn) for name, fn in ((SLEEP, sleep), (WAIT, wait), (FLOW, flow))
    } | {RELAY + name: relays[one.version] for name, one in code.definitions.items()}


def _terms() -> Any:
    terms = current_task().lease.task.terms
    if terms is None or terms.flow is None:
        raise Reject("this task belongs to no workflow")
    return terms


async def _start_node(runs: Runs, flow: str, node: int, index: int) -> None:
    run_id, _ = parse_flow(flow)
    known = (await runs.load([run_id])).get(run_id)
    if known is None or known.run.flow != flow or known.run.is_over:
        return
    states = await states_of(runs, known)
    if node in states:
        return
    trip, advancer = Trip(known, states), Advancer(runs.broker, runs.clock, runs)
    task = msgspec.structs.replace(
        births.placeholder(known, node, index).task, payload=known.plan.graph.nodes[node].payload
    )
    if runs.code.objection(task) is not None:
        # A key of its sealed arguments is missing here.
        raise Snooze(_LONGEST_PAUSE)
    if known.plan.graph.nodes[node].kind == "map":
        await advancer.start_child(trip, node, index)
    else:
        trip.wave.ready[node] = None
        await advancer.settle([trip])


async def _sub_workflow(app: Home, code: Code, inputs: dict[str, Any]) -> Any:
    broker = (await app.client()).broker
    runs, task = Runs(broker, app.clock, code), current_task()
    terms = _terms()
    # Made from the task's id: every execution means the same run.
    run_id = successor_id(task.id, 0)
    found = await runs.load([run_id])
    if run_id not in found:
        parent = await runs.get(parse_flow(terms.flow)[0])
        graph = parent.plan.graph.nodes[terms.node].graph
        if graph is None:
            raise Reject("its workflow has no such graph")
        run = Run(
            id=run_id,
            name=graph.name,
            created_at=app.clock.time(),
            inputs=msgspec.msgpack.encode(inputs),
            parent=task.id,
        )
        found = {run_id: await runs.create(run, graph)}
    known = found[run_id]
    if not known.run.is_over:
        # Also when it was begun before: what a kill has left out is done now.
        await Advancer(broker, app.clock, runs).start(known)
        # Its end makes this task due at once, unless it ends before the snooze is stored.
        raise Snooze(min(_LONGEST_PAUSE, _FIRST_LOOK * 2**task.lease.counters.snoozes))
    if known.run.status != State.SUCCEEDED:
        raise Reject(f"workflow {known.run.name} ({run_id}) has {known.run.status}")
    return msgspec.msgpack.decode(await result_of_run(runs, known))
