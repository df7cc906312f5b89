"""The end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from conveyor.core import advance
from conveyor.core.run import RUNNING
from conveyor.core.run import decode as decode_run
from conveyor.flows.runs import ACTIVE, GRAPH, NOTE, RUN, SIGNAL

if TYPE_CHECKING:
    from conveyor.core.run import Run
    from conveyor.flows.runs import Known, Runs

KEPT_SECONDS = 7 * 86_400.0
"""A run is kept so long after its end: as its results are."""
_PAGE, _OLDEST = 1_000, 100


async def close(runs: Runs, known: Known, now: float) -> None:
    """Write down what a run ended in, wake who waits for it, and clear what only its advancing
    needed. Again is a no-op; whatever a kill leaves undone the keeper does.
    """
    broker, graph = runs.broker, known.plan.graph

    async def ended() -> tuple[str, dict[str, int]]:
        states = known.run.keys.states(await broker.tallies.members(known.run.keys.ended))
        counts: dict[str, int] = {}
        for state in states.values():
            counts[state] = counts.get(state, 0) + 1
        cancelled = known.run.cancel is not None
        return str(advance.outcome(graph, states, cancelled=cancelled)), counts

    status, counts = await ended()

    def over(run: Run) -> Run | None:
        if run.is_over or run.generations != known.run.generations:
            return None
        return msgspec.structs.replace(run, status=status, finished_at=now, counts=counts)

    await runs.change(known.run.id, over)
    await clear(runs, await runs.get(known.run.id))


async def clear(runs: Runs, known: Known) -> None:
    """Clear what a run that is over needs no more, and wake its parent."""
    broker, run = runs.broker, known.run
    if run.status == RUNNING:
        return
    if run.parent is not None:
        await broker.requeue([run.parent])
    joins = [run.keys.join(n) for n in range(known.plan.end) if known.plan.width(n) > 1]
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
            keys += [run.keys.join(number, part) for part in "*!"]
        if node.kind == "signal":
            await documents.delete(SIGNAL, f"{run.id}/{node.signal}")
        if node.when is not None or node.references:
            await documents.delete(NOTE, f"{run.id}/{number}")
    await runs.broker.tallies.drop(keys)
    for kind in (ACTIVE, GRAPH, RUN):
        await documents.delete(kind, run.id)
