"""Does an action to one lot of tasks, by the queue's own verbs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import State
from conveyor_console.bulk_actions.models import Action
from conveyor_console.console import Console
from conveyor_console.history.writing import bury, requeued

CHANGED = "changed since it was looked up"
REPEATED = "done before the console was interrupted, or changed by somebody else"
ENDED, GONE = "ended meanwhile", "not in the queue any more"
_DEAD = frozenset({State.FAILED, State.CANCELLED})


class Target(NamedTuple):
    """A task of a lot as it was written down before it is touched."""

    id: str
    queue: str
    mark: float


@dataclass(frozen=True, slots=True)
class Order:
    """What to do to a lot. `is_repeat`: it may have been done already, in part or all of it."""

    action: Action
    by: str
    reason: str
    is_repeat: bool


@dataclass(slots=True)
class Done:
    """What became of a lot."""

    ids: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


async def act(console: Console, order: Order, targets: Sequence[Target]) -> Done:
    """Do it. Twice is not harmful: a task that lives another life by now is left alone. Raises
    `ConveyorError`."""
    if order.action is Action.CANCEL:
        return await _cancel(console, order, targets)
    dead = order.action is not Action.RUN_NOW
    same = await (_same_death(console, targets) if dead else _not_ended(console, targets))
    broker = (await console.queue.client()).broker
    verb = broker.discard if order.action is Action.DISCARD else broker.requeue
    done = Done(list(await verb(same)) if same else [])
    missed = len(targets) - len(done.ids)
    if missed:
        done.skipped[REPEATED if order.is_repeat else CHANGED] = missed
    return done


async def _cancel(console: Console, order: Order, targets: Sequence[Target]) -> Done:
    broker = (await console.queue.client()).broker
    ids = [target.id for target in targets]
    states = await broker.cancel(ids, by=order.by, reason=order.reason)
    done = Done()
    for task_id in ids:
        state = states.get(task_id)
        if state in {State.CANCELLED, State.RUNNING}:
            done.ids.append(task_id)
        else:
            done.skipped[GONE if state is None else ENDED] += 1
    return done


async def _ends(console: Console, targets: Sequence[Target]) -> dict[str, tuple[State, float]]:
    inspector = await console.queue.inspector()
    homes = {target.id: target.queue for target in targets}
    found = await inspector.finished(list(homes), homes)
    return {one.info.id: (one.info.state, one.info.finished_at or 0.0) for one in found}


async def _same_death(console: Console, targets: Sequence[Target]) -> list[str]:
    """Those that are dead letters and have not lived since."""
    ends = await _ends(console, targets)
    return [
        one.id
        for one in targets
        if one.id in ends and ends[one.id][0] in _DEAD and ends[one.id][1] == one.mark
    ]


async def _not_ended(console: Console, targets: Sequence[Target]) -> list[str]:
    """Those that a requeue would not raise from the dead."""
    ends = await _ends(console, targets)
    return [one.id for one in targets if one.id not in ends]


async def follow(db: AsyncSession, action: Action, done: Done, targets: Sequence[Target]) -> None:
    """Let the list of dead letters follow at once; the recorder would a moment later."""
    if action is Action.DISCARD:
        await bury(db, done.ids)
    elif action is Action.REQUEUE and done.ids:
        marks = {one.id: one.mark for one in targets}
        await requeued(db, [(task_id, marks[task_id]) for task_id in done.ids])
