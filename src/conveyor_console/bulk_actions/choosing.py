"""Which tasks a bulk action is about, lot by lot, those with the newest ids first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.bulk_actions.models import Action, Of
from conveyor_console.console import Console
from conveyor_console.history import fields, letters
from conveyor_console.history.living import living
from conveyor_console.history.models import DeadLetter
from conveyor_console.history.queries import finished
from conveyor_console.kit.filters import Condition, conditions

MOST_COUNTED = 10_000
"""A plan counts so many tasks, and then says that there are more."""
_LOOKS = 10
_AT_ONCE = 1_000
_SCANNED = 2_000
"""Living tasks that are looked at for one lot."""
ON_DEAD = frozenset({Action.REQUEUE, Action.DISCARD})
_STATES = {
    Action.RUN_NOW: ("scheduled",),
    Action.RESCHEDULE: ("scheduled",),
    Action.REQUEUE: ("failed", "cancelled"),
    Action.DISCARD: ("failed", "cancelled"),
}


class Choice(NamedTuple):
    """What is to be done, and to what: a filter of a list."""

    action: Action
    of: Of
    wanted: Sequence[Condition]


class Candidate(NamedTuple):
    """A task that fits. `mark` is when it ended, epoch seconds: a later one is another life."""

    id: str
    queue: str
    mark: float
    name: str
    state: str


class Lot(NamedTuple):
    """Tasks that fit, and the id below which to go on; None: there are no more."""

    tasks: list[Candidate]
    before: str | None


class Preview(NamedTuple):
    """What a plan is about."""

    tasks: list[Candidate]
    number: int
    is_exact: bool


def choice(action: Action, of: Of, q: str, at: float) -> Choice:
    """Read a filter by the grammar of its list; ages count from `at`, epoch seconds. Raises
    `BadQuery`."""
    known = letters.FIELDS if of is Of.DEAD_LETTERS else fields.FIELDS
    return Choice(action, of, conditions(q, known, at))


async def lot(console: Console, chosen: Choice, before: str | None, size: int) -> Lot:
    """Return up to `size` tasks below an id that fit and that the action can be done to."""
    if chosen.of is Of.DEAD_LETTERS:
        return await _of_letters(console, chosen.wanted, before, size)
    action, wanted = chosen.action, [*chosen.wanted]
    if action in _STATES:
        wanted.append(Condition("state", "is", _STATES[action]))
    if action not in ON_DEAD:
        part = await living(console.queue, wanted, before, size, most=_SCANNED)
        alive = [Candidate(t.id, t.queue, 0.0, t.name, t.state.value) for t in part.rows]
        return Lot(alive, part.floor)
    async with console.database.reading() as db:
        past = await finished(db, wanted, before, size)
        letters = await _letters(db, [task.id for task in past.rows])
    return Lot(
        [
            Candidate(task.id, task.queue, task.finished_at, task.name, task.state)
            for task in past.rows
            if task.id in letters
        ],
        past.floor,
    )


async def _of_letters(
    console: Console, wanted: Sequence[Condition], before: str | None, size: int
) -> Lot:
    async with console.database.reading() as db:
        part = await letters.letters(db, wanted, before, size)
    return Lot(
        [Candidate(one.task_id, one.queue, one.died_at, one.name, one.state) for one in part.rows],
        part.floor,
    )


async def _letters(db: AsyncSession, ids: list[str]) -> set[str]:
    """Those that can still be requeued or discarded."""
    return set(await db.scalars(select(DeadLetter.task_id).where(DeadLetter.task_id.in_(ids))))


async def preview(console: Console, chosen: Choice) -> Preview:
    """Count what fits, as far as that is cheap."""
    found: list[Candidate] = []
    before: str | None = None
    for _ in range(_LOOKS):
        tasks, before = await lot(console, chosen, before, _AT_ONCE)
        found += tasks
        if before is None:
            return Preview(found, len(found), is_exact=True)
        if len(found) >= MOST_COUNTED:
            break
    return Preview(found, len(found), is_exact=False)


def just_above(task_id: str) -> str:
    """Return the next id: what is enqueued after the plan sorts above it."""
    return str(UUID(int=min(UUID(task_id).int + 1, 2**128 - 1)))
