"""Tasks that have not ended, asked of the broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from conveyor import Conveyor
from conveyor.inspect import Filter, State, TaskInfo
from conveyor_console.history.fields import Reading
from conveyor_console.history.queries import Part
from conveyor_console.kit.filters import Condition, matches

MOST_SCANNED = 10_000
"""Rows that are looked at for one page: the broker filters by state, queue and name only."""
_PAGE, _FIRST = 1_000, 250
_LIVING = tuple(state for state in State if not state.is_final)


def parameter_names(queue: Conveyor, name: str) -> Sequence[str]:
    """Return the parameters of a task definition, none when it is not known here."""
    definition = queue.definitions.get(name)
    return () if definition is None else definition.signature.names


async def living(
    queue: Conveyor,
    wanted: Sequence[Condition],
    cursor: str | None,
    limit: int,
    *,
    most: int = MOST_SCANNED,
    oldest_first: bool = False,
    late: Callable[[], bool] = lambda: False,
) -> Part:
    """Return up to `limit` living tasks that fit, the newest first, below the id `cursor`, or the
    oldest first, above it; at most `most` are looked at. Once `late` says so, what was found by
    then is the answer."""
    where, rest = _filter(wanted)
    if where is None:
        return Part([])
    inspector = await queue.inspector()
    get = Reading(lambda name: parameter_names(queue, name))
    size = limit if not rest else min(_FIRST, most)
    found: list[TaskInfo] = []
    scanned = 0
    while scanned < most:
        page = await inspector.tasks(_from(where, cursor, size, oldest_first=oldest_first))
        for info in page:
            if matches(info, rest, get):
                found.append(info)
                if len(found) == limit:
                    return Part(found, info.id)
        if len(page) < size:
            return Part(found)
        scanned += len(page)
        cursor = page[-1].id
        size = min(_PAGE, most - scanned)
        if late():
            break
    return Part(found, cursor, cut=True)


def _filter(wanted: Sequence[Condition]) -> tuple[Filter | None, list[Condition]]:
    """Return what the broker can answer by itself, and what is left."""
    states, rest = _LIVING, list[Condition]()
    told: dict[str, str] = {}
    for one in wanted:
        if one.attribute == "state":
            states = tuple(state for state in states if state.value in one.values)
        elif (
            one.attribute in {"queue", "name"}
            and one.attribute not in told
            and one.op == "is"
            and not (one.negated or one.patterns)
            and len(one.values) == 1
        ):
            told[one.attribute] = one.values[0]
        else:
            rest.append(one)
    if not states:
        return None, rest
    return Filter(states=states, queue=told.get("queue"), name=told.get("name")), rest


def _from(where: Filter, cursor: str | None, size: int, *, oldest_first: bool) -> Filter:
    if oldest_first:
        return replace(where, after=cursor, oldest_first=True, limit=size)
    return replace(where, before=cursor, limit=size)
