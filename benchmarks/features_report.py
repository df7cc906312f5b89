"""The figures of `features.py` for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

NONE = "—"
"""A figure that did not come in time."""
_TRANSACTIONS = {
    "rows_per_second": "rows alone",
    "row_and_task_per_second": "tasks, 1 with a row",
    "tasks_per_second_by_100": "tasks, 100 with a row",
}
_WHERE = {"redis": "redis, by the outbox in SQLite"}


def as_json(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return valid JSON: a NaN is an error here, not a figure."""
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


def as_tables(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a Markdown table for each feature, with a row for each store."""
    parts = [
        _table("Limits: tasks drained a second (to limits off)", found, _limits),
        _table("Schedules due at once: seconds until the last task is stored", found, _schedules),
        _table("Workflows: nodes a second", found, _workflows),
        _table("Enqueue in the user's transaction, a second", found, _transactions),
    ]
    return "\n".join(parts)


def _table(title: str, found: Mapping[str, Mapping[str, Any]], cells: Any) -> str:
    rows = {store: cells(store, row) for store, row in found.items()}
    heads: Sequence[str] = list(next(iter(rows.values()), {}))
    lines = [f"### {title}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(row[head] for head in heads)} |" for row in rows.values()]
    return "\n".join([*lines, ""])


def _limits(store: str, row: Mapping[str, Any]) -> dict[str, str]:
    ratios = row["to_off"]
    return {"store": store} | {
        kind: NONE if rate is None else f"{rate:,.0f}/s ({_number(ratios[kind], '.2f')}×)"
        for kind, rate in row["drain_per_second"].items()
    }


def _schedules(store: str, row: Mapping[str, Any]) -> dict[str, str]:
    seconds = row["schedules_seconds"]
    return {
        "store": store,
        "schedules": _number(row["schedules_due_at_once"], ",d"),
        "seconds": _number(seconds, ".2f"),
        "fires/s": _number(row["schedules_due_at_once"] / seconds if seconds else None, ",.0f"),
    }


def _workflows(store: str, row: Mapping[str, Any]) -> dict[str, str]:
    shapes = row["workflow_nodes_per_second"]
    return {"store": store} | {shape: _number(rate, ",.0f") for shape, rate in shapes.items()}


def _transactions(store: str, row: Mapping[str, Any]) -> dict[str, str]:
    figures = row["transactions"]
    return {"store": _WHERE.get(store, f"{store}, its own database")} | {
        head: _number(figures[name], ",.0f") for name, head in _TRANSACTIONS.items()
    }


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)
