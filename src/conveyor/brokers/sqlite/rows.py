"""How values become columns: ids as 16 bytes, states as small numbers, times as microseconds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from conveyor.brokers.base import WorkerInfo
from conveyor.brokers.sql import NUMBERS
from conveyor.core.errors import InvalidOption
from conveyor.core.task import (
    SECONDS_PER_LEVEL,
    UNTOUCHED,
    Counters,
    ErrorInfo,
    Execution,
    Pause,
    Progress,
    State,
    Task,
)

MICROS = 1_000_000
LEVEL = int(SECONDS_PER_LEVEL * MICROS)

SCHEDULED, QUEUED, RUNNING = NUMBERS[State.SCHEDULED], NUMBERS[State.QUEUED], NUMBERS[State.RUNNING]
SKIPPED, SUCCEEDED, FAILED, CANCELLED = (
    NUMBERS[State.SKIPPED],
    NUMBERS[State.SUCCEEDED],
    NUMBERS[State.FAILED],
    NUMBERS[State.CANCELLED],
)


class Record(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a task has behind it: kept in its row while it lives, in `finished` afterwards."""

    execution: Execution | None = None
    """The last one of a finished task."""
    counters: Counters = UNTOUCHED
    error: ErrorInfo | None = None
    reason: str | None = None


class Jotting(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The note of a running execution."""

    progress: Progress | None = None
    logs: tuple[str, ...] = ()


NO_RECORD = Record()
encode = msgspec.msgpack.Encoder().encode
decode_task = msgspec.msgpack.Decoder(Task).decode
decode_record = msgspec.msgpack.Decoder(Record).decode
decode_execution = msgspec.msgpack.Decoder(Execution).decode
decode_jotting = msgspec.msgpack.Decoder(Jotting).decode
decode_pause = msgspec.msgpack.Decoder(Pause).decode
decode_worker = msgspec.msgpack.Decoder(WorkerInfo).decode


def micros(seconds: float) -> int:
    """Return seconds as whole microseconds."""
    return round(seconds * MICROS)


def pack_ids(ids: Sequence[str]) -> list[bytes]:
    """Return the 16 bytes of each id, in order. Raises `InvalidOption` when one is no UUID."""
    # All at once is five times faster than one by one, and this is on the hot path.
    try:
        packed = bytes.fromhex("".join(ids).replace("-", ""))
        if len(packed) == 16 * len(ids):
            return [packed[at : at + 16] for at in range(0, len(packed), 16)]
    except ValueError:
        pass
    wrong = next(task_id for task_id in ids if pack_id(task_id) is None)
    raise InvalidOption(f"id={wrong!r}: a task's id is a UUID, as made by conveyor.system.new_id()")


def pack_id(task_id: str) -> bytes | None:
    """Return the 16 bytes of an id, or None when it is no UUID (so no task can have it)."""
    try:
        packed = bytes.fromhex(task_id.replace("-", ""))
    except ValueError:
        return None
    return packed if len(packed) == 16 else None


def unpack_id(packed: bytes) -> str:
    """Return the canonical text of an id."""
    text = packed.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def decode_story(story: bytes | None) -> Record:
    """Return what a living task has behind it."""
    return NO_RECORD if story is None else decode_record(story)
