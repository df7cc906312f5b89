"""From errors to one clear sentence on stderr and an exit code that scripts can use."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from conveyor.core.errors import (
    BrokerError,
    ConveyorError,
    InvalidArguments,
    InvalidOption,
    NotSerialisable,
    PayloadTooLarge,
    ScheduleNotFound,
    TaskNotFound,
    UnknownTask,
    WorkerNotFound,
    WorkflowNotFound,
)

BROKEN, BAD_INPUT, UNAVAILABLE, NOT_FOUND = 1, 2, 3, 4
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (TaskNotFound, NOT_FOUND),
    (ScheduleNotFound, NOT_FOUND),
    (WorkerNotFound, NOT_FOUND),
    (WorkflowNotFound, NOT_FOUND),
    (UnknownTask, BAD_INPUT),
    (InvalidOption, BAD_INPUT),
    (InvalidArguments, BAD_INPUT),
    (NotSerialisable, BAD_INPUT),
    (PayloadTooLarge, BAD_INPUT),
    (BrokerError, UNAVAILABLE),
    (ConveyorError, BROKEN),
)


@contextmanager
def explained() -> Iterator[None]:
    """Turn Conveyor's errors into a sentence and an exit code."""
    try:
        yield
    except ConveyorError as exc:
        fail(str(exc), code_of(exc))


def code_of(exc: BaseException) -> int:
    """Return the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(exc, kind)), BROKEN)


def fail(message: str, code: int) -> None:
    """Say `error: …` on stderr and leave. Raises `typer.Exit`."""
    sys.stderr.write(f"error: {message}\n")
    raise typer.Exit(code)


def parse_json(text: str, option: str, kind: type) -> object:
    """Parse an option's JSON and check that it is a list or an object. Raises `InvalidOption`."""
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise InvalidOption(f"{option} is not JSON: {exc}; got {text[:80]!r}") from None
    if not isinstance(value, kind):
        wanted = "a JSON array, e.g. '[1, \"a\"]'" if kind is list else "a JSON object, e.g. '{}'"
        raise InvalidOption(f"{option} must be {wanted}; got {text[:80]!r}")
    return value
