"""Blobs and rows of the SQLite broker, to and from values."""

from __future__ import annotations

from typing import Any

import msgspec

from conveyor.brokers.base import Note, WorkerInfo
from conveyor.core.task import (
    SECONDS_PER_LEVEL,
    UNTOUCHED,
    Counters,
    ErrorInfo,
    Execution,
    Lease,
    Pause,
    Task,
)

pack = msgspec.msgpack.Encoder().encode
unpack_task = msgspec.msgpack.Decoder(Task).decode
unpack_execution = msgspec.msgpack.Decoder(Execution).decode
unpack_error = msgspec.msgpack.Decoder(ErrorInfo).decode
unpack_pause = msgspec.msgpack.Decoder(Pause).decode
unpack_note = msgspec.msgpack.Decoder(Note).decode
unpack_worker = msgspec.msgpack.Decoder(WorkerInfo).decode
unpack_events = msgspec.msgpack.Decoder(list[tuple[str, str, str, int]]).decode
_unpack_counters = msgspec.msgpack.Decoder(Counters).decode


def counters_of(blob: bytes | None) -> Counters:
    """Return the counters, zero when none are stored."""
    return UNTOUCHED if blob is None else _unpack_counters(blob)


def packed_counters(counters: Counters) -> bytes | None:
    """Return what to store of counters: nothing when they are all zero."""
    return None if counters == UNTOUCHED else pack(counters)


def vtime(available: float, priority: int) -> float:
    """Return the key of the claim order (contract D19)."""
    return available - SECONDS_PER_LEVEL * priority


def lease_of(row: tuple[Any, ...], worker: str, at: float) -> Lease:
    """Build a fresh lease from (id, blob, execution, counters, cancel)."""
    _, blob, execution, counters, cancel = row
    return Lease(
        unpack_task(blob), execution + 1, counters_of(counters), cancel is not None, worker, at
    )
