"""Finished tasks, many at a time: what a history is written from."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from conveyor.brokers.base import FinishedTask
from conveyor.brokers.sqlite.rows import decode_execution, decode_record, pack_id
from conveyor.brokers.sqlite.views import SQL, Row, info_of
from conveyor.core.task import Execution

PER_QUERY = 1_000


def finished(connection: sqlite3.Connection, ids: Sequence[str], now: int) -> list[FinishedTask]:
    """Return those of up to `PER_QUERY` tasks that are final, with their executions and results."""
    packed = {key for task_id in ids if (key := pack_id(task_id)) is not None}
    statement = SQL["finished"].format(ids=",".join("?" * len(packed)))
    found = [
        (result if check_at > now else None, Row(*row))
        for result, check_at, *row in connection.execute(statement, tuple(packed))
    ]
    # Only what was leased more than once has executions beside the last one.
    earlier = _earlier(connection, [row.seq for _, row in found if row.execution > 1])
    return [_with_history(row, earlier.get(row.seq, []), result) for result, row in found]


def _earlier(connection: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, list[Execution]]:
    found: dict[int, list[Execution]] = {}
    if seqs:
        statement = SQL["earlier"].format(seqs=",".join("?" * len(seqs)))
        for seq, record in connection.execute(statement, seqs):
            found.setdefault(seq, []).append(decode_execution(record))
    return found


def _with_history(row: Row, executions: list[Execution], result: bytes | None) -> FinishedTask:
    last = decode_record(row.record).execution if row.record is not None else None
    if last is not None:
        executions.append(last)
    info = msgspec.structs.replace(info_of(row), executions=tuple(executions))
    return FinishedTask(info, result)
