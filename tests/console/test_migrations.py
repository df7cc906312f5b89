"""Every revision goes up and down with data in every table, on both databases, while tasks run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, Table, func, insert, select
from sqlalchemy import types as kinds

from conveyor import Conveyor
from conveyor_console import app as _app  # noqa: F401 - every model is imported
from conveyor_console.db import schema
from conveyor_console.db.base import PREFIX, Base
from conveyor_console.db.engine import Database
from tests.console.history_kit import migrated, shop
from tests.running import at_work, ended

ROWS = 3
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
REVISIONS = [
    one.revision for one in ScriptDirectory.from_config(schema._config()).walk_revisions()
][::-1]


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Conveyor]:
    """A queue in the very database of the console."""
    await migrated(database_url)
    async with shop(database_url) as queue:
        yield queue


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def on(database: Database, act: Callable[[Connection], Any]) -> Any:
    async with database.writing() as db:
        return await (await db.connection()).run_sync(act)


def is_ours(name: str) -> bool:
    return name.startswith(PREFIX) or name == "dead_letter_queue"


def tables(connection: Connection) -> list[Table]:
    """The console's tables as they stand, those that others refer to first."""
    found = MetaData()
    found.reflect(connection, only=lambda name, _: is_ours(name) and name != schema.VERSION_TABLE)
    return found.sorted_tables


def counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in tables(connection)
    }


VALUES: tuple[tuple[Any, Callable[[int], Any]], ...] = (
    (kinds.Boolean, lambda number: number % 2 == 0),
    (kinds.Integer, lambda number: number + 100),
    ((kinds.Numeric, kinds.Float), lambda number: number + 0.5),
    (kinds.DateTime, lambda _: NOW),
    (kinds.JSON, lambda number: {"number": number}),
    (kinds.LargeBinary, lambda number: number.to_bytes(16)),
    (kinds.String, lambda number: f"x{number}"),
)


def value_of(column: Column[Any], number: int) -> Any:
    return next(make(number) for kind, make in VALUES if isinstance(column.type, kind))


def fill(connection: Connection) -> None:
    """Put rows into every table that is empty; what refers to others refers to their rows."""
    for table in tables(connection):
        if connection.scalar(select(func.count()).select_from(table)):
            continue
        for number in range(ROWS):
            row = {}
            for column in table.columns:
                row[column.name] = value_of(column, number)
                for reference in column.foreign_keys:
                    known = connection.scalars(select(reference.column)).all()
                    row[column.name] = known[number % len(known)]
            connection.execute(insert(table).values(row))


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_object": lambda _, name, kind, *__: kind != "table" or is_ours(name or ""),
            "version_table": schema.VERSION_TABLE,
        },
    )
    return list(compare_metadata(context, Base.metadata))


@asynccontextmanager
async def tasks_run(queue: Conveyor) -> AsyncIterator[None]:
    """Tasks come and go all the while; at the end every one of them has succeeded."""
    greet, over = queue.definitions["shop.greet"], asyncio.Event()

    async def produce() -> list[Any]:
        handles = [await greet.enqueue("first")]
        while not over.is_set():
            handles.append(await greet.enqueue(f"n{len(handles)}"))
            await ended(handles[-1])
        return handles

    async with at_work(queue), asyncio.TaskGroup() as group:
        producer = group.create_task(produce())
        try:
            yield
        finally:
            over.set()
        handles = await producer
        results = [await one.result() for one in handles]
        assert results == ["first", *(f"n{number}" for number in range(1, len(results)))]


async def test_the_models_are_what_the_revisions_make(database: Database) -> None:
    await schema.upgrade(database)
    assert await on(database, differences) == []


async def test_every_revision_goes_up_and_down_with_data_while_tasks_run(
    queue: Conveyor, database: Database
) -> None:
    async with tasks_run(queue):
        for revision in REVISIONS:
            before = await on(database, counts)
            assert await schema.upgrade(database, revision)
            after = await on(database, counts)
            assert {name: after[name] for name in before} == before, revision
            await on(database, fill)
        full = await on(database, counts)
        assert all(full.values()), full
        for revision in [*REVISIONS[-2::-1], "base"]:
            assert await schema.downgrade(database, revision)
            left = await on(database, counts)
            assert {name: full[name] for name in left} == left, revision
        assert await on(database, counts) == {}
        await schema.upgrade(database)
    assert await on(database, differences) == []
