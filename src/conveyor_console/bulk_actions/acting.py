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
    delay: float | None = None
    due_at: float | None = None


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
    broker = (await console.queue.client()).broker
    if order.action in {Action.RUN_NOW, Action.RESCHEDULE}:
        # Never `requeue`: that would raise one that has died meanwhile.
        ids = [target.id for target in targets]
        changed = await broker.reschedule(ids, delay=order.delay, due_at=order.due_at)
    else:
        same = await _same_death(console, targets)
        if order.action is Action.DISCARD:
            changed = await broker.discard(same)
        else:
            changed = await broker.requeue(same, dead_only=True)
    done = Done(list(changed))
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


async def _same_death(console: Console, targets: Sequence[Target]) -> list[str]:
    """Those that are dead letters and have not lived since."""
    inspector = await console.queue.inspector()
    homes = {target.id: target.queue for target in targets}
    marks = {target.id: target.mark for target in targets}
    return [
        one.info.id
        for one in await inspector.finished(list(homes), homes)
        if one.info.state in _DEAD and one.info.finished_at == marks[one.info.id]
    ]


async def follow(db: AsyncSession, action: Action, done: Done, targets: Sequence[Target]) -> None:
    """Let the list of dead letters follow at once; the recorder would a moment later."""
    if action is Action.DISCARD:
        await bury(db, done.ids)
    elif action is Action.REQUEUE and done.ids:
        marks = {one.id: one.mark for one in targets}
        await requeued(db, [(task_id, marks[task_id]) for task_id in done.ids])
