"""The limits of this store: what people and running tasks do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from conveyor.brokers.gates import GateInfo, Standing
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.documents import Run
from conveyor.brokers.postgres.inspector import Read
from conveyor.brokers.postgres.rows import known_form, pack, unpack_pause
from conveyor.brokers.postgres.statements import statements
from conveyor.core.gates import Gate, GateState
from conveyor.core.task import Pause

Now = Callable[[], float | None]
"""The given time, None for the server's."""
_SQL = statements("standing")
_COUNTED = 10_000
_RULE = "SELECT rule($1, $2, $3, $4, $5, $6)"
_EXTEND = "SELECT extend_closure($1, $2, $3)"


class PostgresGates:
    """A `conveyor.brokers.gates.Gates`. `run` is for changes; `read` gives a snapshot."""

    def __init__(self, run: Run, read: Read, now: Now) -> None:
        self._run = run
        self._read = read
        self._now = now

    @property
    def span_queues(self) -> bool:
        """Yes."""
        return True

    async def reserve(self, gate: Gate) -> float:
        """Take tokens whatever they cost; return the seconds to wait before using them."""
        numbers = (gate.rate, gate.burst, gate.cost)
        wait: float = await self._run(
            lambda c: c.fetchval(
                "SELECT reserve($1, $2, $3, $4, $5)", self._now(), gate.id, *numbers
            )
        )
        return wait

    async def close(
        self,
        limit: str,
        key: str | None,
        until: float | None,
        pause: Pause,
        *,
        extend: bool = False,
    ) -> None:
        """Close one key of a limit, or all of it."""
        at = float("inf") if until is None else until
        if extend:
            await self._run(lambda c: c.execute(_EXTEND, _name(limit, key), at, pack(pause)))
        else:
            await self._rule(_name(limit, key), at, pack(pause), False, None, None)

    async def open(self, limit: str, key: str | None) -> None:
        """Take a closure back."""
        await self._rule(_name(limit, key), None, None, False, None, None)

    async def tune(self, limit: str, *, rate: float | None = None, most: int | None = None) -> None:
        """Use these numbers in place of the tasks' own."""
        await self._rule(limit, None, None, True, rate, most)

    async def _rule(self, *what: Any) -> None:
        await self._run(lambda c: c.execute(_RULE, *what))

    async def look(self, limit: str | None = None, most: int = 1_000) -> list[GateInfo]:
        """Return gates that have a state, by limit and key."""
        rows = await self._read(lambda c, now: c.fetch(_SQL["look"], now, limit, most))
        return [_info(row) for row in rows]

    async def standing(self, task_ids: Sequence[str]) -> dict[str, Standing]:
        """Say where queued tasks stand."""
        found: dict[str, Standing] = await self._read(
            lambda c, now: _standing(c, known_form(task_ids), now)
        )
        return found


def _name(limit: str, key: str | None) -> str:
    return limit if key is None else Gate(limit, key).id


async def _standing(
    connection: Connection, ids: Sequence[str], now: float | None
) -> dict[str, Standing]:
    gates: dict[str, list[GateInfo]] = {}
    for row in await connection.fetch(_SQL["gates_of"], now, ids):
        gates.setdefault(str(row["task"]), []).append(_info(row))
    rows = await connection.fetch(_SQL["ranks"], now, ids, _COUNTED + 1)
    return {
        str(task_id): Standing(
            now=clock,
            ahead=min(ahead, _COUNTED),
            ahead_is_exact=ahead <= _COUNTED,
            gates=tuple(gates.get(str(task_id), ())),
        )
        for task_id, clock, ahead in rows
    }


def _info(row: Any) -> GateInfo:
    limit, _, key = row["id"].partition("\n")
    return GateInfo(
        limit=limit,
        key=key,
        state=GateState(row["tat"], row["running"], row["until"], row["rate"], row["most"]),
        holders=tuple(map(str, row["holders"])),
        pause=None if row["pause"] is None else unpack_pause(row["pause"]),
    )
