"""The built-in tasks: sleeping, waiting for a signal, running a sub-workflow.

None of them holds a slot while it waits: it is a scheduled task, due at the end of the wait, and
what it waits for makes it due at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.context import current_task
from conveyor.core.amounts import MAX_DELAY
from conveyor.core.graph import successor_id
from conveyor.core.options import Options
from conveyor.core.retry import Retry
from conveyor.core.run import Run, parse_flow
from conveyor.core.signals import Reject, Snooze
from conveyor.core.task import State
from conveyor.flows.advancer import Advancer
from conveyor.flows.births import FLOW, SLEEP, WAIT
from conveyor.flows.outcome import result_of_run
from conveyor.flows.runs import SIGNAL, Runs
from conveyor.tasks import TaskDefinition

if TYPE_CHECKING:
    from conveyor.flows.home import Home

_FIRST_LOOK, _LONGEST_PAUSE = 2.0, 60.0


def definitions(app: Home) -> dict[str, TaskDefinition[..., Any, Any]]:
    """Return the built-in task definitions of an app."""

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
        return await _sub_workflow(app, inputs)

    return {
        name: TaskDefinition(fn, name=name, dispatcher=app, options=Options(), retry=Retry())
        for name, fn in ((SLEEP, sleep), (WAIT, wait), (FLOW, flow))
    }


def _terms() -> Any:
    terms = current_task().lease.task.terms
    if terms is None or terms.flow is None:
        raise Reject("this task belongs to no workflow")
    return terms


async def _sub_workflow(app: Home, inputs: dict[str, Any]) -> Any:
    broker = (await app.client()).broker
    runs, task = Runs(broker, app.clock), current_task()
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
