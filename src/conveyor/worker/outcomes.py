"""From what user code did to an outcome: the same rules in the loop, in threads, in processes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core.codec import encode
from conveyor.core.envelope import is_wrapped
from conveyor.core.errors import InDoubt, InvalidArguments, NotSerialisable, PayloadTooLarge
from conveyor.core.outcome import Failed, Outcome, Rejected, Snoozed, Succeeded
from conveyor.core.signals import Reject, Snooze
from conveyor.core.task import ErrorInfo

if TYPE_CHECKING:
    from conveyor.core.clock import Clock
    from conveyor.core.task import Lease
    from conveyor.packing import Packing
    from conveyor.tasks import TaskDefinition

MAX_TRACEBACK = 16_000
"""Characters of a traceback that are kept: the outermost and the innermost frames."""


class BadArguments(Exception):
    """The stored arguments do not fit the function as it is now."""


def prepare(
    definition: TaskDefinition[..., Any, Any], lease: Lease, packing: Packing | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode the task's arguments. Raises `BadArguments`, saying which one does not fit, or
    whatever a blob store or an upcaster raises. Blocks while a blob is read.
    """
    payload = lease.task.payload
    if packing is not None and (definition.version > 1 or is_wrapped(payload)):
        try:
            payload = packing.unpack(lease.task, definition)
        except msgspec.DecodeError as exc:
            raise _misfit(definition, exc) from None
    try:
        return definition.signature.decode(payload)
    except (msgspec.DecodeError, InvalidArguments, ValueError, TypeError) as exc:
        raise _misfit(definition, exc) from None


def _misfit(definition: TaskDefinition[..., Any, Any], exc: Exception) -> BadArguments:
    text = str(exc).removesuffix("; nothing was enqueued")
    if definition.encrypt:
        # Models quote what does not fit them.
        text = f"{type(exc).__name__}, whose text is not kept because arguments are sealed"
    where = f"{definition.name}{definition.signature.text}"
    return BadArguments(f"the stored arguments do not fit {where}: {text}")


def outcome_of_value(definition: TaskDefinition[..., Any, Any], value: Any) -> Outcome:
    """Encode a returned value; one that cannot be stored fails the task for good."""
    if value is None:
        return _SUCCEEDED_NONE
    try:
        return Succeeded(encode(value, what=f"the result of {definition.name}"))
    except (NotSerialisable, PayloadTooLarge) as exc:
        return Failed(ErrorInfo(_type_name(exc), str(exc)), final=True)


_SUCCEEDED_NONE = Succeeded(b"\xc0")


def outcome_of_exception(
    exc: BaseException,
    lease: Lease,
    definition: TaskDefinition[..., Any, Any],
    clock: Clock,
    dice: Callable[[], float],
) -> Outcome:
    """Judge an exception by the definition's retry policy."""
    if isinstance(exc, Snooze):
        return Snoozed(exc.delay)
    if isinstance(exc, Reject):
        return Rejected(ErrorInfo("conveyor.Reject", exc.reason, describe(exc).traceback))
    if isinstance(exc, InDoubt):
        return Rejected(ErrorInfo("conveyor.errors.InDoubt", str(exc)))
    if isinstance(exc, BadArguments):
        return Rejected(ErrorInfo("conveyor.errors.InvalidArguments", str(exc)))
    error = describe(exc)
    now = clock.time()
    try:
        verdict = definition.retry.judge(
            exc,
            attempts_spent=lease.counters.attempts + 1,
            age=now - lease.task.enqueued_at,
            now=now,
            dice=dice(),
        )
    except Exception as broken:  # noqa: BLE001 - the policy's callable is user code
        note = f"\n\nand its retry policy raised:\n{describe(broken).traceback}"
        return Failed(ErrorInfo(error.type, error.message, error.traceback + note))
    return Failed(error, final=verdict.final, delay=verdict.delay)


def describe(exc: BaseException) -> ErrorInfo:
    """Return the exception as text: type, message, traceback without the engine's own frames."""
    frames = _theirs(exc.__traceback__)
    try:
        lines = traceback.format_exception(type(exc), exc, frames)
        text = "".join(lines)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        text = "".join(traceback.format_tb(frames))
    return ErrorInfo(_type_name(exc), _message(exc), _shortened(text))


def timed_out(limit: float, place: str = "") -> ErrorInfo:
    """Describe a time-out of `limit` seconds; `place` is where the code was then, see `place_of`
    and `place_now`."""
    message = f"it ran longer than its timeout of {limit:g} s"
    trace = f"Traceback (most recent call last):\n{place}TimeoutError: {message}\n" if place else ""
    return ErrorInfo("TimeoutError", message, trace)


def place_of(exc: BaseException) -> str:
    """Return where an exception was raised, as the frames of a traceback."""
    return _shown(traceback.extract_tb(exc.__traceback__))


def place_now(thread: int | None) -> str:
    """Return where the thread of that identifier is now, as the frames of a traceback."""
    frame = sys._current_frames().get(thread or 0)
    return _shown(traceback.extract_stack(frame) if frame is not None else [])


def _shown(entries: list[traceback.FrameSummary]) -> str:
    """Return frames as text, without our own: around the task's, and inside the handler of a
    signal."""
    while entries and _is_ours(entries[-1].filename):
        entries = entries[:-1]
    while any(_is_ours(entry.filename) for entry in entries):
        entries = entries[1:]
    return _shortened("".join(traceback.format_list(entries)))


def _theirs(frames: TracebackType | None) -> TracebackType | None:
    """Return what is inside the innermost of our own frames."""
    inside = entry = frames
    while entry is not None:
        if _is_ours(entry.tb_frame.f_code.co_filename):
            inside = entry.tb_next
        entry = entry.tb_next
    return inside


def _shortened(text: str) -> str:
    if len(text) <= MAX_TRACEBACK:
        return text
    half = MAX_TRACEBACK // 2
    return f"{text[:half]}\n… {len(text) - MAX_TRACEBACK} characters left out …\n{text[-half:]}"


def _is_ours(filename: str) -> bool:
    return "/conveyor/worker/" in filename.replace("\\", "/")


def _type_name(exc: BaseException) -> str:
    cls = type(exc)
    module = cls.__module__
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


def _message(exc: BaseException) -> str:
    try:
        return str(exc)[:2_000]
    except Exception:  # noqa: BLE001 - as above
        return "<the exception has no readable message>"
