"""Leases of workers: renew, sweep, hold, lengthen; the leader's lease; pauses; notes."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.brokers.base import Holding, Note, Renewal, WorkerInfo
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.rows import lease_of, pack, packed, unpack_note
from conveyor.core.task import Pause

_CLOCK = "coalesce($1::double precision, extract(epoch FROM clock_timestamp())::double precision)"
_EXTEND = f"""
INSERT INTO worker AS w (id, until) SELECT n, {_CLOCK} + $3 FROM unnest($2::text[]) AS n ORDER BY n
ON CONFLICT (id) DO UPDATE SET until = excluded.until WHERE NOT w.swept RETURNING w.id"""
_END = f"UPDATE worker SET until = {_CLOCK} WHERE id = ANY ($2) AND NOT swept RETURNING id"
_SWEPT = "SELECT id FROM worker WHERE id = ANY ($1) AND swept"
_INFORM = "UPDATE worker SET info = $2 WHERE id = $1"
_CANCELS = "SELECT worker, id FROM lease WHERE worker = ANY ($1) AND cancel IS NOT NULL"
_SWEEP = f"UPDATE worker SET swept = true WHERE until <= {_CLOCK} AND NOT swept"
_HELD = """
SELECT t.body, l.execution, t.counters, l.cancel, l.worker, l.at, l.note
FROM lease l JOIN task t ON t.id = l.id"""
_HELD_BY = f"{_HELD} WHERE l.worker = $1 ORDER BY l.id LIMIT $2"
_HELD_OVER = f"""{_HELD} LEFT JOIN worker w ON w.id = l.worker
WHERE w.id IS NULL OR w.swept ORDER BY l.worker, l.id LIMIT $1"""
_GRACE = f"""
UPDATE worker SET until = greatest(until, {_CLOCK}) + $2
WHERE NOT swept AND until > {_CLOCK} - 3600"""
_NOTE = """
UPDATE lease l SET note = s.note FROM unnest($1::uuid[], $2::integer[], $3::bytea[])
    AS s (id, execution, note)
WHERE l.id = s.id AND l.execution = s.execution RETURNING l.id, l.execution"""
_LEAD = f"""
WITH now AS (SELECT {_CLOCK} AS clock)
INSERT INTO leader AS l SELECT $2, $3, clock + $4 FROM now
ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE l.holder = excluded.holder OR l.until <= (SELECT clock FROM now)
RETURNING (SELECT clock FROM now)"""
_ABDICATE = f"""
WITH now AS (SELECT {_CLOCK} AS clock),
    gone AS (DELETE FROM leader WHERE role = $2 AND holder = $3)
SELECT clock FROM now WHERE NOT EXISTS (
    SELECT 1 FROM leader WHERE role = $2 AND holder <> $3 AND until > clock)"""
_PAUSE = """
INSERT INTO queue VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET pause = excluded.pause"""
_RESUMED = "SELECT pg_notify(current_schema(), 'q' || $1::text)"


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
            rows = await connection.fetch(_EXTEND, now, names, seconds)
            alive = {row[0] for row in rows}
        else:
            await connection.fetch(_END, now, names)
            alive = set(names) - {row[0] for row in await connection.fetch(_SWEPT, names)}
        if info is not None:
            await connection.execute(_INFORM, info.id, pack(info))
        cancels: dict[str, list[str]] = {}
        for worker, task_id in await connection.fetch(_CANCELS, names):
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
        rows = await connection.fetch(_HELD_BY, worker, limit)
    else:
        async with connection.transaction():
            await connection.execute(_SWEEP, now)
            rows = await connection.fetch(_HELD_OVER, limit)
    return [
        Holding(lease_of(row), unpack_note(row["note"]) if row["note"] is not None else None)
        for row in rows
    ]


async def grace(connection: Connection, seconds: float, now: float | None) -> None:
    """Lengthen every lease that was not swept."""
    await connection.execute(_GRACE, now, seconds)


async def annotate(connection: Connection, notes: Sequence[Note]) -> list[bool]:
    """Keep the newest note of running executions."""
    # An UPDATE takes one of several new values for a row, and not the last one.
    last = {(note.id, note.execution): note for note in notes}
    rows = await connection.fetch(
        _NOTE,
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
        clock = await connection.fetchval(_ABDICATE, now, role, holder)
    else:
        clock = await connection.fetchval(_LEAD, now, role, holder, seconds)
    return None if clock is None else float(clock)


async def pause(connection: Connection, queue: str, note: Pause | None) -> None:
    """Pause a queue, or with None let it run and ring for it."""
    async with connection.transaction():
        await connection.execute(_PAUSE, queue, packed(note))
        if note is None:
            await connection.execute(_RESUMED, queue)
