"""The end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from conveyor.core import advance
from conveyor.core.advance import Keys
from conveyor.core.run import decode as decode_run
from conveyor.flows.runs import ACTIVE, GRAPH, NOTE, RUN, SIGNAL

if TYPE_CHECKING:
    from conveyor.core.advance import Plan
    from conveyor.core.run import Run
    from conveyor.flows.runs import Known, Runs

KEPT_SECONDS = 7 * 86_400.0
"""A run is kept so long after its end: as its results are."""
_PAGE, _OLDEST = 1_000, 100


async def close(runs: Runs, known: Known, now: float) -> None:
    """Write down what a run ended in, wake who waits for it, and clear what only its advancing
    needed. Again is a no-op; whatever a kill leaves undone the keeper does.
    """
    members = await runs.broker.tallies.members(known.run.keys.ended)
    states = known.run.keys.states(members)
    counts: dict[str, int] = {}
    for state in states.values():
        counts[state] = counts.get(state, 0) + 1

    def over(run: Run) -> Run | None:
        if run.is_over or run.generations != known.run.generations:
            return None
        ended = advance.outcome(known.plan.graph, states, cancelled=run.cancel is not None)
        return msgspec.structs.replace(run, status=str(ended), finished_at=now, counts=counts)

    run = await runs.change(known.run.id, over)
    if run.is_over:
        await clear(runs, run, known.plan)


async def clear(runs: Runs, run: Run, plan: Plan) -> None:
    """Clear what a run that is over needs no more, and wake its parent."""
    broker = runs.broker
    if run.parent is not None:
        await broker.requeue([run.parent])
    joins = [run.keys.join(number) for number in range(plan.end) if plan.width(number) > 1]
    keys = [*joins, *(f"{key}-" for key in joins), f"flow/{run.id}/end.{run.epoch}"]
    for start in range(0, len(keys), _PAGE):
        await broker.tallies.drop(keys[start : start + _PAGE])
    await broker.documents.delete(ACTIVE, run.id)


async def prune(runs: Runs) -> int:
    """Forget runs that have been over for `KEPT_SECONDS`; returns how many. Looks at the oldest
    hundred only: it is called again and again.
    """
    broker, now, pruned = runs.broker, runs.clock.time(), 0
    for document in await broker.documents.list(RUN, limit=_OLDEST):
        run = decode_run(document.body)
        if run.finished_at is None or now - run.finished_at < KEPT_SECONDS:
            continue
        known = (await runs.load([run.id], fresh=0.0)).get(run.id)
        if known is not None:
            await _forget(runs, known)
            pruned += 1
    return pruned


async def _forget(runs: Runs, known: Known) -> None:
    documents, run = runs.broker.documents, known.run
    keys = [run.keys.ended]
    for number, node in enumerate(known.plan.graph.nodes):
        if node.kind == "map":
            for earlier in range(run.generations.get(number, 0) + 1):
                at = Keys(run.id, {number: earlier})
                keys += [at.join(number, part) for part in "*!+"]
        if node.kind == "signal":
            await documents.delete(SIGNAL, f"{run.id}/{node.signal}")
        keyed = known.plan.graph.lots[node.lot].keyed
        if node.when is not None or node.references or node.kind == "map" or keyed:
            await documents.delete(NOTE, f"{run.id}/{number}")
    await runs.broker.tallies.drop(keys)
    for kind in (ACTIVE, GRAPH, RUN):
        await documents.delete(kind, run.id)
