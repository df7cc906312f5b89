"""Many rows in one statement: what the ORM would need ten times as long for.

SQLite takes them by `executemany`, which is a loop in C; PostgreSQL as one array per column.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.ext.asyncio import AsyncSession

Row = tuple[Any, ...]
_DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]
_PER_STATEMENT = 5_000


class Upsert:
    """Writes rows, in the order of the table's columns. A row whose primary key is there already is
    left alone; or with `replace` it takes the new values; or with `add` these columns grow by the
    new ones' and those in `latest` take them."""

    def __init__(
        self,
        table: Any,
        *,
        replace: bool = False,
        add: Sequence[str] = (),
        latest: Sequence[str] = (),
    ) -> None:
        self._table: Table = table
        self._columns = [column.name for column in self._table.columns]
        self._keys = [column.name for column in self._table.primary_key]
        changed = [name for name in self._columns if name not in self._keys] if replace else latest
        changes = [f"{_q(name)} = excluded.{_q(name)}" for name in changed]
        changes += [f"{_q(n)} = {_q(self._table.name)}.{_q(n)} + excluded.{_q(n)}" for n in add]
        self._action = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"

    async def run(self, session: AsyncSession, rows: Sequence[Row]) -> None:
        """Write the rows; those of one call must have different primary keys."""
        if not rows:
            return
        connection = await session.connection()
        if connection.dialect.name == "sqlite":
            await connection.exec_driver_sql(self._many, list(rows))
            return
        for start in range(0, len(rows), _PER_STATEMENT):
            columns = tuple(map(list, zip(*rows[start : start + _PER_STATEMENT], strict=True)))
            await connection.exec_driver_sql(self._arrays, columns)

    @property
    def _head(self) -> str:
        names = ", ".join(map(_q, self._columns))
        return f"INSERT INTO {_q(self._table.name)} ({names})"

    @property
    def _tail(self) -> str:
        return f"ON CONFLICT ({', '.join(map(_q, self._keys))}) DO {self._action}"

    @cached_property
    def _many(self) -> str:
        return f"{self._head} VALUES ({', '.join('?' * len(self._columns))}) {self._tail}"

    @cached_property
    def _arrays(self) -> str:
        kinds = [column.type.compile(_DIALECT) for column in self._table.columns]
        arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(kinds, 1))
        return " ".join((self._head, "SELECT * FROM", f"unnest({arrays})", self._tail))


async def matching(session: AsyncSession, select: str, ids: Sequence[str]) -> list[Any]:
    """Run a statement whose `{ids}` stands for a list of ids, a thousand at a time, and return its
    rows, if it has any."""
    connection = await session.connection()
    found: list[Any] = []
    for start in range(0, len(ids), 1_000):
        part = list(ids[start : start + 1_000])
        if connection.dialect.name == "sqlite":
            statement = select.replace("{ids}", f"IN ({', '.join('?' * len(part))})")
            result = await connection.exec_driver_sql(statement, tuple(part))
        else:
            statement = select.replace("{ids}", "= ANY ($1::varchar[])")
            result = await connection.exec_driver_sql(statement, (part,))
        if result.returns_rows:
            found += result.all()
    return found


def _q(name: str) -> str:
    return f'"{name}"'
