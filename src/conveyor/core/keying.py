"""Keys and costs: functions of a task's own arguments, asked where the task is enqueued.

They never run in the store: what travels with the task is their answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from conveyor.core.errors import InvalidArguments, InvalidOption

KeyFunction = Callable[..., Any]
MAX_KEY = 256


def must_be_function(value: Any, option: str) -> None:
    """Raise `InvalidOption` for anything but None or a function that answers at once."""
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        what = "not async: it is asked at every enqueue" if callable(value) else "of the arguments"
        raise InvalidOption(f"{option}={value!r}: a function, {what}")


def called(
    function: KeyFunction, what: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Return what a function makes of a call. Raises `InvalidArguments` when it fails."""
    try:
        return function(*args, **kwargs)
    except Exception as exc:
        raise InvalidArguments(
            f"{what} cannot be told from these arguments: {type(exc).__name__}: {exc}; "
            "nothing was enqueued"
        ) from exc


def key_of(
    function: KeyFunction | None, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """Return the key of one call, '' without a function. Raises `InvalidArguments`."""
    if function is None:
        return ""
    return as_key(called(function, f"the key of {name!r}", args, kwargs), name)


def as_key(value: Any, name: str) -> str:
    """Return a value as a key. Raises `InvalidArguments` for none, or one that is too long."""
    key = str(value)
    if value is None or len(key) > MAX_KEY or not key.isprintable():
        shown = f"{len(key)} characters long" if len(key) > MAX_KEY else repr(value)[:80]
        raise InvalidArguments(
            f"the key of {name!r} is {shown}, but must be a value of at most {MAX_KEY} printable "
            "characters; nothing was enqueued"
        )
    return key
