"""The tables that live in the application's own database."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateTable

from conveyor.core.errors import InvalidOption

metadata = MetaData()
"""Both tables, for migrations: Alembic may compare a database with it."""

outbox = Table(
    "conveyor_outbox",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("at", Float(53), nullable=False, comment="of the enqueue, seconds since 1970"),
    Column("queue", String(100), nullable=False),
    Column("name", String(512), nullable=False),
    Column("key", String(256)),
    Column("digest", String(64)),
    Column("body", LargeBinary, nullable=False, comment="the task, as MessagePack"),
    Column("refused", Text, comment="why the broker did not take it; for moments only"),
    UniqueConstraint("queue", "name", "key", name="conveyor_outbox_key"),
)
"""Tasks on their way to a broker that is elsewhere."""

done = Table(
    "conveyor_done",
    metadata,
    Column("task_id", String(36), primary_key=True),
    Column("execution", Integer, nullable=False),
    Column("result", LargeBinary, nullable=False, comment="its value, as MessagePack"),
    Column("at", Float(53), nullable=False),
)
"""Transactional tasks that committed while their broker is elsewhere."""

_DIALECTS = {"postgresql": postgresql.dialect, "sqlite": sqlite.dialect}


def ddl(dialect: str) -> str:
    """Return the statements that make both tables. Raises `InvalidOption`."""
    if dialect not in _DIALECTS:
        raise InvalidOption(f"dialect {dialect!r}: {' or '.join(_DIALECTS)}")
    chosen: Dialect = _DIALECTS[dialect]()
    texts = [str(CreateTable(t).compile(dialect=chosen)).strip() for t in metadata.sorted_tables]
    return "".join(f"{text};\n" for text in texts)


async def create_tables(engine: AsyncEngine) -> None:
    """Make `conveyor_outbox` and `conveyor_done` where they are missing."""
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)


def create_tables_sync(engine: Engine | Connection) -> None:
    """Do what `create_tables` does, through a synchronous engine or connection."""
    metadata.create_all(engine)
