"""Leases of workers: renew, sweep, hold, lengthen; the leader's lease; pauses; notes."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.brokers.base import Holding, Note, Renewal, WorkerInfo
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.rows import lease_of, pack, packed, unpack_note
from conveyor.brokers.postgres.statements import statements
from conveyor.core.task import Pause

_SQL = statements("leases")


async def renew(
    connection: Connection,
    workers: Sequence[str],
    seconds: float,
    info: WorkerInfo | None,
    now: float | None,
) -> dict[str, Renewal]:
    """Renew, make or (with 0 seconds) end the leases of these workers."""
    names = list(dict.fromkeys(workers))
    async with connection.transaction():
        if seconds > 0:
            rows = await connection.fetch(_SQL["extend"], now, names, seconds)
            alive = {row[0] for row in rows}
        else:
            await connection.execute(_SQL["end"], now, names)
            alive = set(names) - {row[0] for row in await connection.fetch(_SQL["swept"], names)}
        if info is not None:
            await connection.execute(_SQL["inform"], info.id, pack(info))
        cancels: dict[str, list[str]] = {}
        for worker, task_id in await connection.fetch(_SQL["cancels"], names):
            cancels.setdefault(worker, []).append(str(task_id))
    return {
        name: Renewal(alive=True, cancels=cancels.get(name, []))
        if name in alive
        else Renewal(alive=False)
        for name in names
    }


async def held(
    connection: Connection, worker: str | None, limit: int, now: float | None
) -> list[Holding]:
    """Return what a worker holds, or sweep the workers whose lease is over."""
    if worker is not None:
        rows = await connection.fetch(_SQL["held_by"], worker, limit)
    else:
        async with connection.transaction():
            await connection.execute(_SQL["sweep"], now)
            rows = await connection.fetch(_SQL["held_over"], limit)
    return [
        Holding(lease_of(row), unpack_note(row["note"]) if row["note"] is not None else None)
        for row in rows
    ]


async def grace(connection: Connection, seconds: float, now: float | None) -> None:
    """Lengthen every lease that was not swept."""
    await connection.execute(_SQL["grace"], seconds, now)


async def annotate(connection: Connection, notes: Sequence[Note]) -> list[bool]:
    """Keep the newest note of running executions."""
    # An UPDATE takes one of several new values for a row, and not the last one.
    last = {(note.id, note.execution): note for note in notes}
    rows = await connection.fetch(
        _SQL["note"],
        [note.id for note in last.values()],
        [note.execution for note in last.values()],
        [pack(note) for note in last.values()],
    )
    taken = {(str(row[0]), row[1]) for row in rows}
    return [(note.id, note.execution) in taken for note in notes]


async def lead(
    connection: Connection, role: str, holder: str, seconds: float, now: float | None
) -> float | None:
    """Take, keep or give up a leadership."""
    if seconds <= 0:
        clock = await connection.fetchval(_SQL["abdicate"], now, role, holder)
    else:
        clock = await connection.fetchval(_SQL["lead"], now, role, holder, seconds)
    return None if clock is None else float(clock)


async def pause(connection: Connection, queue: str, note: Pause | None) -> None:
    """Pause a queue, or with None let it run and ring for it."""
    async with connection.transaction():
        await connection.execute(_SQL["pause"], queue, packed(note))
        if note is None:
            await connection.execute(_SQL["ring"], [queue])
