"""Which children of a mapped node run again when it is retried: those that did not succeed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from conveyor.core import advance
from conveyor.core.advance import Keys
from conveyor.core.task import State
from conveyor.flows import births
from conveyor.flows.keying import CannotStart
from conveyor.flows.results import Reader, finals
from conveyor.flows.trip import Trip

if TYPE_CHECKING:
    from conveyor.flows.runs import Known, Runs

_PER_CALL = 2_000


async def keep_children(
    runs: Runs,
    known: Known,
    states: Mapping[int, State],
    chosen: Sequence[int],
    again: Collection[int],
) -> dict[int, tuple[int, ...]]:
    """Put on record which children of the mapped nodes among `chosen` run again, and return what
    becomes of `Run.reruns` when all of `again` gets a new generation. Again is a no-op.
    """
    reruns = {node: chain for node, chain in known.run.reruns.items() if node not in again}
    epoch = known.run.epoch + 1
    for number in chosen:
        if known.plan.graph.nodes[number].kind != "map" or _is_below(known, number, chosen):
            continue
        if states.get(number) not in {State.FAILED, State.CANCELLED}:
            continue
        wrong = await _wrong(runs, known, states, number)
        if wrong is not None:
            key = known.run.keys.rerun(number, epoch)
            for start in range(0, len(wrong), _PER_CALL):
                page = wrong[start : start + _PER_CALL]
                await runs.broker.tallies.add([(key, str(index)) for index in page])
            before = known.run.reruns.get(number, ())
            reruns[number] = (*before, known.run.generations.get(number, 0))
    return reruns


async def children_ended(runs: Runs, known: Known, number: int) -> set[int]:
    """Return which children of a mapped node have ended, those of earlier starts that count
    included."""
    rerun, ended = known.reruns.get(number), set[int]()
    for generation in rerun.chain if rerun is not None else (known.generation(number),):
        key = Keys(known.run.id, {number: generation}).join(number, "*")
        members = set(map(int, await runs.broker.tallies.members(key)))
        ended |= members
        if rerun is not None and generation == rerun.chain[-1]:
            ended -= set(rerun.todo) - members
    return ended


def _is_below(known: Known, number: int, chosen: Sequence[int]) -> bool:
    """Whether what the node maps over is made anew, too."""
    others = [other for other in chosen if other != number]
    return any(number in advance.descendants(known.plan, other) for other in others)


async def _wrong(
    runs: Runs, known: Known, states: Mapping[int, State], number: int
) -> list[int] | None:
    """Return the children that did not succeed; None when all are to run again."""
    trip, reader = Trip(known, states), Reader(runs.broker)
    await reader.read([(trip, number)])
    try:
        items = births.items_of(known.plan.graph.nodes[number], reader.lookup(trip, number))
    except CannotStart:
        return None
    known.items[number] = items
    keys, tallies = known.run.keys, runs.broker.tallies
    ended = set(map(int, await tallies.members(keys.join(number, "*"))))
    bad = set(map(int, await tallies.members(keys.join(number, "!"))))
    todo = known.todo(number)
    # A dead letter that was requeued by hand may have succeeded since.
    ids = {births.node_id(known, number, index): index for index in sorted(bad)}
    for task_id, final in (await finals(runs.broker, list(ids))).items():
        if final.state is State.SUCCEEDED:
            bad.discard(ids[task_id])
    good = ended - bad
    if not good and number not in known.reruns:
        return None
    return [index for index in todo if index not in good]
