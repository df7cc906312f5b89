"""What lists of tasks can be filtered by: live ones and finished ones by the same fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Double, String, cast, func, literal, null

from conveyor.inspect import State, TaskInfo
from conveyor_console.history.models import Task
from conveyor_console.history.rows import facts_of, print_of
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE

STATES = tuple(state.value for state in State)
FIELDS: Mapping[str, Field] = {
    "state": Field(Kind.CHOICE, "state", STATES),
    "task": Field(Kind.TEXT, "name"),
    "queue": Field(Kind.TEXT, "queue"),
    "id": Field(Kind.TEXT, "id"),
    "key": Field(Kind.TEXT, "key"),
    "worker": Field(Kind.TEXT, "worker"),
    "by": Field(Kind.TEXT, "created_by"),
    "schedule": Field(Kind.TEXT, "schedule"),
    "workflow": Field(Kind.TEXT, "flow"),
    "fingerprint": Field(Kind.TEXT, "fingerprint"),
    "error": Field(Kind.WORDS, "all_error"),
    "reason": Field(Kind.WORDS, "reason"),
    "flag": Field(Kind.WORDS, "flags"),
    "args": Field(Kind.FACT, "facts"),
    "priority": Field(Kind.NUMBER, "priority"),
    "attempts": Field(Kind.NUMBER, "attempts"),
    "run": Field(Kind.SECONDS, "run"),
    "age": Field(Kind.AGE, "enqueued_at"),
    "enqueued": Field(Kind.MOMENT, "enqueued_at"),
    "started": Field(Kind.MOMENT, "started_at"),
    "finished": Field(Kind.MOMENT, "finished_at"),
    FREE: Field(Kind.WORDS, "text"),
}


def column(attribute: str, of: Any = Task) -> ColumnElement[Any]:
    """Return what holds an attribute in the table of finished tasks, or an alias of it."""
    blank = literal(" ")
    if attribute == "all_error":
        return cast(of.error_type + blank + func.coalesce(of.error, ""), String)
    if attribute == "text":
        error = func.coalesce(column("all_error", of), "")
        return cast(of.name + blank + of.id + blank + error, String)
    found: ColumnElement[Any] = getattr(of, attribute)
    if attribute in {"priority", "attempts"}:
        # The other side may be any number, and PostgreSQL's integers are small.
        return cast(found, Double)
    return found


def hidden(attribute: str, of: Any = Task) -> ColumnElement[Any]:
    """Return the same of a text, so that SQLite takes no index for it: without statistics it takes
    any that has the column."""
    found = column(attribute, of)
    return func.coalesce(found, null()) if isinstance(found.type, String) else found


class Reading:
    """Reads attributes of living tasks. `names` are the parameters of a task definition."""

    def __init__(self, names: Any) -> None:
        self._names = names

    def __call__(self, info: TaskInfo, attribute: str) -> Any:
        """Return the value of an attribute."""
        if attribute == "facts":
            names: Sequence[str] = self._names(info.name)
            return facts_of(info.args, info.kwargs, names)
        special = _SPECIAL.get(attribute)
        return getattr(info, attribute, None) if special is None else special(info)


def _all_error(info: TaskInfo) -> str | None:
    error = info.error
    return None if error is None else f"{error.type} {error.message}"


def _text(info: TaskInfo) -> str:
    return f"{info.name} {info.id} {_all_error(info) or ''}"


_SPECIAL: Mapping[str, Callable[[TaskInfo], Any]] = {
    "state": lambda info: info.state.value,
    "flags": lambda info: " ".join(info.flags),
    "created_by": lambda info: info.headers.get("created_by"),
    "schedule": lambda info: None if info.terms is None else info.terms.schedule,
    "flow": lambda info: None if info.terms is None else info.terms.flow,
    "fingerprint": lambda info: None if info.error is None else print_of(info.error),
    "all_error": _all_error,
    "text": _text,
    "run": lambda _: None,
}
"""What is read otherwise than by its name."""
