"""Pushing and settling in the transaction of a connection that is not ours, whatever its driver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from conveyor.brokers.base import Pushed, Settlement
from conveyor.brokers.joining import Bell, Borrowed
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.push import columns, distinct
from conveyor.brokers.postgres.rows import packed
from conveyor.brokers.postgres.step import keep, tail
from conveyor.brokers.postgres.terms import asks, columns_of
from conveyor.brokers.sql import NUMBERS
from conveyor.core.errors import InvalidOption
from conveyor.core.task import NewTask, State

_IDENTITY = """
SELECT m.identity::text, d.oid::bigint, extract(epoch FROM pg_postmaster_start_time())::text
FROM {namespace}.meta m, pg_database d WHERE d.datname = current_database()
"""
# A dump restored beside the original has its identity too, a copied server its database's number:
# together with the start of the server they name one database that runs.
_IS_THERE = "SELECT to_regclass(:meta) IS NOT NULL"
_MAY_USE = "SELECT has_schema_privilege(:namespace, 'USAGE')"
_MAKE_QUEUES = """
INSERT INTO queue AS q (name, used) SELECT * FROM unnest($1::text[], $2::integer[])
ON CONFLICT (name) DO UPDATE SET used = q.used | excluded.used
"""
_AT_ONCE = 1e-5
"""Seconds after which a task is due that would wait in a lane: it goes there by way of promotion,
for the lane's row is one that workers wait for."""
_PUSH = """
SELECT id::text, holder::text, conflict
FROM {namespace}.push_within(
    CAST(:given AS double precision), CAST(CAST(:columns AS text) AS jsonb))
"""
_SETTLE = """
SELECT {namespace}.finish_within(
    CAST(:given AS double precision), CAST(CAST(:ending AS text) AS jsonb))
"""

Run = Callable[[Callable[[Connection], Awaitable[Any]]], Awaitable[Any]]


class PostgresJoining:
    """A `conveyor.brokers.joining.Joining`: functions of the schema that bring their own search
    path. Their notifications ring when the caller's transaction commits, whoever dies after it.
    """

    dialect = "postgresql"

    def __init__(self, run: Run, namespace: str, now: Callable[[], float | None]) -> None:
        self._run = run
        self._namespace = namespace
        self._now = now
        self._identity: tuple[Any, ...] | None = None
        self._used: dict[str, int] = {}
        """Priorities of queues, as bits, whose row knows them already."""

    async def identify(self) -> None:
        """Read the identity, anew each time: the server may have been restarted."""
        row = await self._run(lambda c: c.fetchrow(self._sql(_IDENTITY)))
        self._identity = tuple(row)

    async def prepare(self, tasks: Sequence[NewTask]) -> None:
        """Make the queues, with the priorities that they have: the row of a queue that is written
        in a long transaction would keep out whoever pushes something new to it.
        """
        used: dict[str, int] = {}
        for new in tasks:
            queue = new.task.queue
            used[queue] = used.get(queue, self._used.get(queue, 0)) | 1 << new.task.priority
        fresh = sorted(queue for queue, bits in used.items() if bits != self._used.get(queue))
        if fresh:
            bits = [used[queue] for queue in fresh]
            await self._run(lambda c: c.execute(_MAKE_QUEUES, fresh, bits))
            self._used |= used

    def is_home(self, connection: Borrowed) -> bool:
        """Compare identities; a database without our schema is only asked whether it has it."""
        namespace = self._namespace
        if not connection.fetch(_IS_THERE, {"meta": f"{namespace}.meta"})[0][0]:
            return False
        if not connection.fetch(_MAY_USE, {"namespace": namespace})[0][0]:
            raise InvalidOption(
                f"the session's role may not use the schema {namespace!r}: "
                f"GRANT USAGE ON SCHEMA {namespace}, and its tables, to it"
            )
        return tuple(connection.fetch(self._sql(_IDENTITY), {})[0]) == self._identity

    def push(
        self, connection: Borrowed, tasks: Sequence[NewTask]
    ) -> tuple[list[Pushed], Bell | None]:
        """Push through one function call."""
        fresh = [_around_lanes(new) for new in distinct(tasks)]
        sent = list(columns(fresh))
        if any(asks(new.task) for new in fresh):
            for part in columns_of([new.task for new in fresh]):
                sent += part
        parameters = {"given": self._now(), "columns": _json(sent)}
        rows = connection.fetch(self._sql(_PUSH), parameters)
        held = {row[0]: Pushed(row[1], created=False, conflict=row[2]) for row in rows}
        return [held.get(new.task.id) or Pushed(new.task.id) for new in tasks], None

    def settle(self, connection: Borrowed, settlement: Settlement) -> tuple[bool, Bell | None]:
        """End an execution through one function call."""
        lease, end = settlement.lease, settlement.transition
        ending = (
            lease.task.id,
            lease.execution,
            NUMBERS[end.to],
            keep(settlement),
            end.result if end.to is State.SUCCEEDED else None,
            packed(settlement.execution),
            tail(settlement),
            lease.task.key is not None,
            asks(lease.task),
        )
        parameters = {"given": self._now(), "ending": _json(ending)}
        return bool(connection.fetch(self._sql(_SETTLE), parameters)[0][0]), None

    def _sql(self, text: str) -> str:
        return text.format(namespace=self._namespace)


def _around_lanes(new: NewTask) -> NewTask:
    terms = new.task.terms
    if terms is None or not terms.lane or new.delay is not None or new.due_at is not None:
        return new
    return msgspec.structs.replace(new, delay=_AT_ONCE)


def _json(value: Any) -> str:
    """Encode for a driver we do not know: bytes as Base64, all of it as one text."""
    return msgspec.json.encode(value).decode()
