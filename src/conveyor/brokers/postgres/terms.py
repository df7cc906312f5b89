"""Tasks with terms as columns: their lanes, gates and unique keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.core.task import Task, Unique

Columns = tuple[list[Any], ...]
_UNTIL_LEASED = ("queued", "start")
"""Such a key is given back with the lease; only a gated task can do that."""


def asks(task: Task) -> bool:
    """Whether it asks for more than the plain line: a lane or a unique key."""
    terms = task.terms
    return terms is not None and (bool(terms.lane) or terms.unique is not None)


def columns_of(tasks: Sequence[Task]) -> tuple[Columns, Columns, Columns]:
    """Return the columns of lanes, gates and unique keys, each row with its task's position
    (from 1), as the functions of `terms.sql` take them.
    """
    lanes: list[tuple[Any, ...]] = []
    gates: list[tuple[Any, ...]] = []
    uniques: list[tuple[Any, ...]] = []
    for at, task in enumerate(tasks, 1):
        terms = task.terms
        if terms is None:
            continue
        if terms.lane:
            weight = None if terms.fair is None else terms.fair.weight
            key, again = _until_leased(terms.unique)
            ids = "\t".join(sorted((gate.id for gate in terms.gates), key=str.encode))
            lanes.append((at, terms.lane, weight, ids, key, again))
            gates += [
                (at, n, g.id, g.rate, g.burst, g.cost, g.most, g.line, g.on_full)
                for n, g in enumerate(terms.gates)
            ]
        if terms.unique is not None:
            uniques.append((at, *_unique(terms.unique)))
    return _columns(lanes, 6), _columns(gates, 9), _columns(uniques, 7)


def _until_leased(rule: Unique | None) -> tuple[str | None, bool]:
    if rule is None or rule.until not in _UNTIL_LEASED:
        return None, False
    return rule.key, rule.until == "queued"


def _unique(rule: Unique) -> tuple[Any, ...]:
    """Key, seconds until time frees it, what a conflict does, and how it debounces: NULL is no end
    of the series."""
    return (
        rule.key,
        rule.seconds if rule.until == "period" else None,
        rule.on_conflict == "replace",
        rule.on_conflict == "raise",
        rule.seconds if rule.debounce else None,
        rule.longest or None,
    )


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Columns:
    return tuple([row[n] for row in rows] for n in range(width))
