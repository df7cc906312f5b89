"""From a console's problem (RFC 9457) to the errors that the queue itself would have raised."""

from __future__ import annotations

import msgspec

from conveyor.core import errors
from conveyor.core.errors import ConveyorError, NotPermitted, RemoteError
from conveyor.remote.shapes import Problem

_decode = msgspec.json.Decoder(Problem).decode
_LONGEST = 300
_SAME: dict[str, type[ConveyorError]] = {
    kind.__name__: kind
    for kind in (
        errors.IdempotencyConflict,
        errors.InvalidArguments,
        errors.InvalidOption,
        errors.NotSerialisable,
        errors.NotUnique,
        errors.PayloadTooLarge,
        errors.TaskNotFound,
        errors.UnknownTask,
    )
}
"""Errors that mean the same on both sides of the wire."""


def refusal(status: int, body: bytes) -> ConveyorError:
    """Return the error that an answer stands for, with the console's own sentence."""
    problem = _problem(body)
    sentence = sentence_of(status, body)
    if problem is not None and problem.error in _SAME:
        return _rebuilt(_SAME[problem.error], problem)
    if status in {401, 403}:
        return NotPermitted(sentence, status)
    if status == 413:
        return errors.PayloadTooLarge(sentence)
    if status == 422 and problem is not None:
        return errors.InvalidOption(sentence)
    if 300 <= status < 400:
        sentence = f"the address answers {status}, a redirect: give the base URL that it leads to"
    return RemoteError(sentence, status)


def sentence_of(status: int, body: bytes) -> str:
    """Return what an answer says; of one that no console gave, its beginning."""
    problem = _problem(body)
    if problem is not None:
        return problem.detail
    text = " ".join(body[: 4 * _LONGEST].decode("utf-8", "replace").split())[:_LONGEST]
    return f"status {status}, and not from a console: {text}" if text else f"status {status}"


def _problem(body: bytes) -> Problem | None:
    try:
        return _decode(body)
    except msgspec.DecodeError:
        return None


def _rebuilt(kind: type[ConveyorError], problem: Problem) -> ConveyorError:
    """Make an error with the sentence of the other side, which knows more: the nearest names."""
    error = kind.__new__(kind, problem.detail)
    for name in ("name", "key", "task_id"):
        value = getattr(problem, name)
        if value is not None:
            setattr(error, name, value)
    return error
