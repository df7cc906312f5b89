"""From finished tasks to rows, in the order of the columns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from conveyor.inspect import ErrorInfo, Execution, FinishedTask, State, TaskInfo
from conveyor_console.history.fingerprints import NOTHING, fingerprint

_SHORT = 500
_MOST_FACTS = 2_000
_DEEPEST = 4
_DEEPEST_SAID = 50
"""Of what JSON cannot say as it is."""
NONE = b"\xc0"
"""A None as the queue encodes it."""
_json = msgspec.json.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
Names = Callable[[str], Sequence[str]]
"""The parameter names of a task definition, none when it is not known here."""


def visible(text: str) -> str:
    """Return a text that every database can store: a NUL becomes its picture."""
    return text.replace("\x00", "␀") if "\x00" in text else text


def as_json(value: Any) -> str:
    """Return plain values as JSON; what JSON has no word for, as it is shown in Python: names that
    are no texts, what lies too deep."""
    try:
        return _json(value).decode()
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
        return _json(_sayable(value, _DEEPEST_SAID)).decode()


def _sayable(value: Any, deeper: int) -> Any:
    if deeper and isinstance(value, dict):
        return {
            name if isinstance(name, str) else repr(name): _sayable(inner, deeper - 1)
            for name, inner in value.items()
        }
    if deeper and isinstance(value, list | tuple):
        return [_sayable(inner, deeper - 1) for inner in value]
    if isinstance(value, dict | list | tuple):
        return "…"
    try:
        _json(value)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return repr(value)
    return value


def task_row(
    task: FinishedTask, names: Sequence[str], created_by: str = "created_by"
) -> tuple[Any, ...]:
    """Return the row of `console_task`."""
    info, error = task.info, task.info.error
    last = info.executions[-1] if info.executions else None
    terms = info.terms
    flow = terms is not None and terms.flow is not None
    by = info.headers.get(created_by)
    return (
        info.id,
        info.name,
        info.queue,
        info.priority,
        info.state.value,
        " ".join(info.flags),
        None if info.key is None else visible(info.key),
        info.enqueued_at,
        info.started_at,
        info.finished_at,
        None if last is None else last.duration,
        info.execution,
        info.attempts,
        info.max_attempts,
        info.timeout,
        info.worker,
        None if error is None else visible(error.type),
        None if error is None else visible(error.message)[:_SHORT],
        None if error is None else print_of(error),
        None if info.reason is None else visible(info.reason),
        None if by is None else visible(by),
        None if terms is None else terms.schedule,
        None if terms is None else terms.scheduled_for,
        terms.flow if terms is not None else None,
        terms.node if terms is not None and flow else None,
        terms.index if terms is not None and flow else None,
        as_json(info.headers) if info.headers else "{}",
        as_json((info.args, info.kwargs)),
        facts_of(info.args, info.kwargs, names),
        None if task.result is None else len(task.result),
    )


def print_of(error: ErrorInfo) -> str:
    """Return the fingerprint of an error."""
    return fingerprint(error.type, error.message, error.traceback)


def execution_row(task_id: str, one: Execution) -> tuple[Any, ...]:
    """Return the row of `console_task_execution`."""
    error = one.error
    return (
        task_id,
        one.number,
        one.attempt,
        one.outcome,
        one.worker,
        one.started_at,
        one.duration,
        one.code_version,
        one.retry_in,
        None if error is None else visible(error.type),
        None if error is None else visible(error.message),
        None if error is None else visible(error.traceback),
        None if error is None else print_of(error),
    )


def result_row(task: FinishedTask) -> tuple[str, str] | None:
    """Return the row of `console_task_result`, None when there is nothing to keep."""
    if task.result is None or task.result == NONE:
        return None
    try:
        return task.info.id, as_json(_unpack(task.result))
    except msgspec.DecodeError:
        return None


def log_row(task_id: str, one: Execution) -> tuple[str, int, str]:
    """Return the row of `console_task_log`."""
    return task_id, one.number, as_json(one.logs)


def letter_row(info: TaskInfo) -> tuple[Any, ...]:
    """Return the row of `dead_letter_queue`."""
    error = info.error if info.state is State.FAILED else None
    return (
        info.id,
        info.name,
        info.queue,
        info.state.value,
        info.finished_at or 0.0,
        info.attempts,
        None if error is None else visible(error.type),
        None if error is None else visible(error.message)[:_SHORT],
        None if info.reason is None else visible(info.reason),
        NOTHING if error is None else print_of(error),
    )


def facts_of(args: Sequence[Any], kwargs: dict[str, Any], names: Sequence[str]) -> str:
    """Return the arguments for search: `path=value` lines, between line feeds. Positional ones have
    the names of their parameters where these are known, else their places."""
    lines: list[str] = []
    size = 0
    for path, value in _leaves(args, kwargs, names):
        line = f"{path}={value}"
        size += len(line) + 1
        if size > _MOST_FACTS:
            break
        lines.append(line)
    return visible("\n" + "\n".join(lines) + "\n") if lines else ""


def _leaves(
    args: Sequence[Any], kwargs: dict[str, Any], names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    for place, value in enumerate(args):
        yield from _below(names[place] if place < len(names) else str(place), value, 0)
    for name, value in kwargs.items():
        yield from _below(name, value, 0)


def _below(path: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value.replace("\n", " ")
    elif value is None or isinstance(value, bool):
        yield path, {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int | float):
        yield path, str(value)
    elif depth < _DEEPEST and isinstance(value, dict):
        for name, inner in value.items():
            yield from _below(f"{path}.{name}", inner, depth + 1)
    elif depth < _DEEPEST and isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _below(f"{path}.{place}", inner, depth + 1)
