"""What people and running tasks do with limits: `conveyor.brokers.gates.Gates` on one database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any

from conveyor.brokers.gates import GateInfo, Standing
from conveyor.brokers.sqlite.book import Book
from conveyor.brokers.sqlite.documents import Write
from conveyor.brokers.sqlite.inspector import Read
from conveyor.brokers.sqlite.lanes import GATES
from conveyor.brokers.sqlite.rows import (
    MICROS,
    decode_pause,
    decode_task,
    encode,
    pack_id,
    unpack_id,
)
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.errors import InvalidOption
from conveyor.core.gates import Gate, GateState, reserve
from conveyor.core.task import Pause

COUNTED = 10_000
"""Tasks ahead of another one that are counted at most."""


class SQLiteGates:
    """The limits of one database."""

    def __init__(self, read: Read, write: Write, now: Callable[[], int]) -> None:
        self._read = read
        self._write = write
        self._now = now

    @property
    def span_queues(self) -> bool:
        """Yes."""
        return True

    async def reserve(self, gate: Gate) -> float:
        """Take tokens of a rate gate; return the seconds to wait before using them."""
        return await self._write(partial(_reserve, gate=gate))

    async def close(
        self,
        limit: str,
        key: str | None,
        until: float | None,
        pause: Pause,
        *,
        extend: bool = False,
    ) -> None:
        """Close a key, or with None the whole limit, until a time or until it is opened."""
        closed = (inf if until is None else until, encode(pause))
        await self._write(partial(_close, limit=limit, key=key, closed=closed, extend=extend))

    async def open(self, limit: str, key: str | None) -> None:
        """Take a closure back and let lanes look."""
        await self._write(partial(_close, limit=limit, key=key, closed=(0.0, None), extend=False))

    async def tune(self, limit: str, *, rate: float | None = None, most: int | None = None) -> None:
        """Use these numbers in place of those that tasks carry. Raises `InvalidOption`."""
        if rate is not None and not 0 < rate < inf:
            raise InvalidOption(f"rate={rate!r}: tokens per second, above 0; to stop, close it")
        if most is not None and most < 0:
            raise InvalidOption(f"most={most!r}: slots, 0 or more")
        await self._write(partial(_tune, limit=limit, rate=rate, most=most))

    async def look(self, limit: str | None = None, most: int = 1_000) -> list[GateInfo]:
        """Return gates that have a state, by limit and key."""
        now = self._now() / MICROS
        return await self._read(partial(_look, limit=limit, most=most, now=now))

    async def standing(self, task_ids: Sequence[str]) -> dict[str, Standing]:
        """Say where queued tasks stand."""
        now = self._now() / MICROS
        return await self._read(partial(_standing, task_ids=task_ids, now=now))


def _reserve(tx: Transaction, gate: Gate) -> float:
    book = Book(tx)
    state, wait = reserve(gate, book.state(gate), book.now)
    book.put(gate, state)
    book.write()
    return wait


def _close(
    tx: Transaction, limit: str, key: str | None, closed: tuple[float, Any], *, extend: bool
) -> None:
    unless_longer = (not extend, closed[0])
    if key is None:
        tx.execute(GATES["make_limit"], (limit,))
        tx.execute(GATES["close_limit"], (*closed, limit, *unless_longer))
    else:
        tx.execute(GATES["make_gate"], (limit, key))
        tx.execute(GATES["close_gate"], (*closed, limit, key, *unless_longer))
    _let_look(tx, limit)


def _tune(tx: Transaction, limit: str, rate: float | None, most: int | None) -> None:
    tx.execute(GATES["make_limit"], (limit,))
    tx.execute(GATES["tune_limit"], (rate, most, limit))
    _let_look(tx, limit)


def _let_look(tx: Transaction, limit: str) -> None:
    # Also after closing: it may be for a shorter time than before.
    tx.execute(GATES["stir_limit"], (tx.now, limit))
    tx.wake_all = True


def _look(
    connection: sqlite3.Connection, limit: str | None, most: int, now: float
) -> list[GateInfo]:
    asked = {"every": limit is None, "limit": limit, "now": now, "most": most}
    rows = connection.execute(GATES["busy_gates"], asked).fetchall()
    found = {(name, key): _info(connection, Gate(name, key), now) for name, key in rows}
    for name, closed, pause, rate, slots in connection.execute(GATES["told_limits"], asked):
        if (name, "") not in found:
            state = GateState(closed_until=closed, rate=rate, most=slots)
            shown = decode_pause(pause) if pause is not None and closed > now else None
            found[name, ""] = GateInfo(limit=name, state=state, pause=shown)
    return [found[where] for where in sorted(found)][:most]


def _info(connection: sqlite3.Connection, gate: Gate, now: float) -> GateInfo:
    """Return a gate as it is, without making it."""
    number, state = None, GateState()
    row = connection.execute(GATES["gate"], (gate.limit, gate.key)).fetchone()
    if row is not None:
        number, state = row[0], GateState(*row[1:6])
    elif (told := connection.execute(GATES["limit"], (gate.limit,)).fetchone()) is not None:
        closed, rate, most = told
        state = GateState(closed_until=closed, rate=rate, most=most)
    holders = connection.execute(GATES["holders"], (number,)).fetchall()
    asked = {"limit": gate.limit, "key": gate.key, "now": now}
    pause = connection.execute(GATES["pause"], asked).fetchone()
    return GateInfo(
        limit=gate.limit,
        key=gate.key,
        state=state,
        holders=tuple(unpack_id(task_id) for (task_id,) in holders),
        pause=None if pause is None else decode_pause(pause[0]),
    )


def _standing(
    connection: sqlite3.Connection, task_ids: Sequence[str], now: float
) -> dict[str, Standing]:
    found = {}
    for task_id in task_ids:
        row = connection.execute(GATES["standing"], (pack_id(task_id),)).fetchone()
        if row is None:
            continue
        queue, lane, rank, order, body, parked = row
        terms = decode_task(body).terms
        if parked:
            ahead = 0
        elif lane:
            within = (queue, lane, queue, lane, rank, order, COUNTED + 1)
            (ahead,) = connection.execute(GATES["ahead_in_lane"], within).fetchone()
        else:
            place = (queue, rank, order, COUNTED + 1)
            (ahead,) = connection.execute(GATES["ahead_in_line"], place).fetchone()
        gates = () if terms is None else terms.gates
        found[task_id] = Standing(
            now=now,
            ahead=min(ahead, COUNTED),
            ahead_is_exact=ahead <= COUNTED,
            gates=tuple(_info(connection, gate, now) for gate in gates),
        )
    return found


def tidy(tx: Transaction, limit: int) -> int:
    """Forget gates that have no state any more and unique keys that ran out; returns how many. One
    round looks at `limit` gates, the next one goes on from there.
    """
    after, now = tx.known.tidied_gate, tx.now / MICROS
    numbers = [row[0] for row in tx.execute(GATES["gates_after"], (after, limit)).fetchall()]
    tx.known.tidied_gate = numbers[-1] if len(numbers) == limit else 0
    pruned = 0
    if numbers:
        within = (after, numbers[-1])
        tx.execute(GATES["prune_stalls"], within)
        pruned += tx.execute(GATES["prune_gates"], (*within, now, now)).rowcount
    pruned += tx.execute(GATES["prune_limits"], (now,)).rowcount
    return pruned + tx.execute(GATES["prune_uniques"], (tx.now, limit)).rowcount
