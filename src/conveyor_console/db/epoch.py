"""A number that grows with every change of who may do what.

A principal that was looked up is good while the number is the same, so a role taken away bites at
the next request on every replica, and a request costs one tiny read instead of a join.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from sqlalchemy import Integer, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base
from conveyor_console.db.engine import Database

PATIENCE = 5.0
"""Seconds that a connection, or an answer, is waited for at most."""
_READ = "SELECT value FROM console_epoch WHERE id = 1"


class EpochRow(Base):
    """The one row."""

    __tablename__ = f"{PREFIX}epoch"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(default=1)


async def advance(session: AsyncSession) -> None:
    """Everything known of principals is old once this transaction commits."""
    await session.execute(update(EpochRow).where(EpochRow.id == 1).values(value=EpochRow.value + 1))


class Epoch:
    """Reads the number. Each answer was read after its caller asked; callers share reads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._patience = min(PATIENCE, database.patience or PATIENCE)
        self._sqlite: sqlite3.Connection | None = None
        self._raw: Any = None
        self._running: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def read(self) -> int:
        """Return the number as it is now. Raises `ConnectionError` when it cannot be asked."""
        if self._database.is_sqlite:
            return self._read_sqlite()
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Close the connections."""
        if self._sqlite is not None:
            self._sqlite.close()
            self._sqlite = None
        if self._raw is not None:
            raw, self._raw = self._raw, None
            await raw.close()

    def _read_sqlite(self) -> int:
        # A read of one row in the page cache: quicker than handing it to a thread.
        try:
            if self._sqlite is None:
                path = self._database.engine.url.database or ""
                self._sqlite = sqlite3.connect(path, timeout=self._patience, isolation_level=None)
            (value,) = self._sqlite.execute(_READ).fetchone()
        except sqlite3.OperationalError as exc:
            raise ConnectionError(f"the database does not answer: {exc}") from exc
        return int(value)

    async def _after(self, running: asyncio.Task[int] | None) -> int:
        # One reads at a time, and who asks before it begins shares it: two at once on the one
        # connection would break it.
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        return await self._read_server()

    async def _read_server(self) -> int:
        import asyncpg

        for last in (False, True):
            try:
                if self._raw is None:
                    url = self._database.engine.url.set(drivername="postgresql")
                    full = url.render_as_string(hide_password=False)
                    self._raw = await asyncpg.connect(full, timeout=self._patience)
                return int(await self._raw.fetchval(_READ, timeout=self._patience))
            except (
                OSError,
                asyncpg.InterfaceError,
                asyncpg.PostgresConnectionError,
                asyncpg.OperatorInterventionError,
                asyncpg.InsufficientResourcesError,
            ) as exc:
                if self._raw is not None:
                    self._raw.terminate()
                self._raw = None
                # Who did not answer in time is not asked again: requests wait for this.
                if last or isinstance(exc, TimeoutError):
                    raise ConnectionError(f"the database does not answer: {exc}") from exc
        raise AssertionError
