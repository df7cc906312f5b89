"""The application's database, by engine or URL, used from an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from conveyor.core.errors import InvalidOption

T = TypeVar("T")


class Database:
    """Runs short transactions of its own. `own` ends the engine with it."""

    def __init__(self, engine: Engine | AsyncEngine, *, own: bool = False) -> None:
        if isinstance(engine, Engine) and engine.dialect.is_async:
            engine = AsyncEngine(engine)
        self._engine = engine
        self._own = own

    @classmethod
    def of(cls, place: object) -> Database:
        """Make it of an engine or an SQLAlchemy URL. Raises `InvalidOption`."""
        if isinstance(place, Engine | AsyncEngine):
            return cls(place)
        if not isinstance(place, str):
            raise InvalidOption(f"outbox={type(place).__name__}: an SQLAlchemy engine or URL")
        try:
            url = make_url(place)
            made = create_async_engine if url.get_dialect().is_async else create_engine
            return cls(made(url), own=True)
        except (ArgumentError, SQLAlchemyError, ModuleNotFoundError) as exc:
            raise InvalidOption(f"outbox=: an SQLAlchemy engine or URL ({exc})") from None

    @property
    def engine(self) -> Engine:
        """The synchronous engine."""
        return self._engine.sync_engine if isinstance(self._engine, AsyncEngine) else self._engine

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction. Raises SQLAlchemy's errors."""
        engine = self._engine
        if isinstance(engine, AsyncEngine):
            async with engine.begin() as connection:
                return await connection.run_sync(work)
        return await asyncio.to_thread(_run, engine, work)

    async def close(self) -> None:
        """End connections that were made here."""
        if not self._own:
            return
        if isinstance(self._engine, AsyncEngine):
            await self._engine.dispose()
        else:
            await asyncio.to_thread(self._engine.dispose)


def _run(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)
