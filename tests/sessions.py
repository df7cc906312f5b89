"""What the tests of sessions share: a table of the application, its URLs, a task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from conveyor import Conveyor
from conveyor.transactions import create_tables, sound_savepoints


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50), default="")


class Boom(Exception):
    pass


def driver(url: str, name: str) -> str:
    scheme, rest = url.split("://", 1)
    return f"{scheme}+{name}://{rest}"


def async_url(url: str) -> str:
    return driver(url, "aiosqlite" if url.startswith("sqlite") else "asyncpg")


def sync_url(url: str) -> str:
    return url if url.startswith("sqlite") else driver(url, "psycopg")


@pytest.fixture(params=["same database", "outbox"])
def user_url(request: pytest.FixtureRequest, broker_url: str, tmp_path: Path) -> str:
    """The user's database: the broker's own, or another one."""
    if request.param == "outbox":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    if broker_url.startswith("redis"):
        pytest.skip("Redis is never the user's database")
    return broker_url


@pytest.fixture
async def sessions(user_url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    engine = create_async_engine(async_url(user_url))
    sound_savepoints(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await create_tables(engine)
    yield async_sessionmaker(engine, expire_on_commit=False)
    await engine.dispose()


def define(app: Conveyor) -> Any:
    @app.task(name="ship")
    async def ship(order: int) -> int:
        return order

    return ship


async def counts(app: Conveyor) -> int:
    return sum((await (await app.inspector()).counts()).values())
