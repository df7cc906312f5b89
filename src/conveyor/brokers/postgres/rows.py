"""Blobs and rows of the PostgreSQL broker, to and from values."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from conveyor.brokers.base import Note, WorkerInfo
from conveyor.core.task import (
    UNTOUCHED,
    Counters,
    ErrorInfo,
    Execution,
    Lease,
    Pause,
    Task,
)

Row = Any
"""An `asyncpg.Record`: columns by name or position."""


class Tail(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a finished task has used up and why it ended; not stored when there is none."""

    counters: Counters = UNTOUCHED
    error: ErrorInfo | None = None
    reason: str | None = None


NO_TAIL = Tail()

pack = msgspec.msgpack.Encoder().encode
unpack_task = msgspec.msgpack.Decoder(Task).decode
unpack_execution = msgspec.msgpack.Decoder(Execution).decode
unpack_error = msgspec.msgpack.Decoder(ErrorInfo).decode
unpack_pause = msgspec.msgpack.Decoder(Pause).decode
unpack_note = msgspec.msgpack.Decoder(Note).decode
unpack_worker = msgspec.msgpack.Decoder(WorkerInfo).decode
unpack_tail = msgspec.msgpack.Decoder(Tail).decode
_unpack_tasks = msgspec.msgpack.Decoder(list[Task]).decode
_unpack_counters = msgspec.msgpack.Decoder(Counters).decode


def counters_of(blob: bytes | None) -> Counters:
    """Return the counters, zero when none are stored."""
    return UNTOUCHED if blob is None else _unpack_counters(blob)


def packed(value: object | None) -> bytes | None:
    """Return the value as a blob, None as None."""
    return None if value is None else pack(value)


def tasks_of(number: int, bodies: bytes) -> list[Task]:
    """Return the tasks whose bodies stand one after the other."""
    return _unpack_tasks(b"\xdd" + number.to_bytes(4, "big") + bodies)


def lease_of(row: Row) -> Lease:
    """Build a running task's lease from its row (see `leases.sql`)."""
    return Lease(
        unpack_task(row["body"]),
        row["execution"],
        counters_of(row["counters"]),
        row["cancel"] is not None,
        row["worker"],
        row["at"],
    )


def known_form(ids: Any) -> list[str]:
    """Return the ids that have the form of one: no other can name a task here."""
    return [task_id for task_id in dict.fromkeys(ids) if _is_uuid(task_id)]


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except (ValueError, TypeError, AttributeError):
        return False
