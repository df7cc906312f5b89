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
Row = dict[str, Any]
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
    async with database.reading() as db:
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


def missing_rows(connection: Connection) -> list[tuple[Table, list[Row]]]:
    """Rows for every table that is empty; what refers to others refers to their rows."""
    made: dict[Table, list[Row]] = {}

    def known(column: Column[Any]) -> list[Any]:
        if column.table in made:
            return [row[column.name] for row in made[column.table]]
        return list(connection.scalars(select(column)).all())

    for table in tables(connection):
        if connection.scalar(select(func.count()).select_from(table)):
            continue
        made[table] = [
            {column.name: value_of(column, number) for column in table.columns}
            for number in range(ROWS)
        ]
        for column in table.columns:
            for reference in column.foreign_keys:
                values = known(reference.column)
                for number, row in enumerate(made[table]):
                    row[column.name] = values[number % len(values)]
    return list(made.items())


async def fill(database: Database) -> None:
    """Put rows into every table that is empty; the one writer of a file is held for that only."""
    rows = await on(database, missing_rows)
    async with database.writing() as db:
        for table, some in rows:
            await db.execute(insert(table), some)


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


class Traffic:
    """Tasks that come and go, one after the other."""

    def __init__(self, queue: Conveyor) -> None:
        self._greet = queue.definitions["shop.greet"]
        self._over = False
        self._passed = asyncio.Condition()
        self._handles: list[Any] = []

    async def flow(self) -> None:
        """Enqueue a task, wait for its end, and so on."""
        while not self._over:
            handle = await self._greet.enqueue(f"n{len(self._handles)}")
            await ended(handle)
            async with self._passed:
                self._handles.append(handle)
                self._passed.notify_all()

    async def another(self) -> None:
        """Wait until one more task is through."""
        known = len(self._handles)
        async with self._passed:
            await self._passed.wait_for(lambda: len(self._handles) > known)

    async def stop(self) -> list[Any]:
        """Let no more come; returns the results of all."""
        await self.another()
        self._over = True
        return [await one.result() for one in self._handles]


@asynccontextmanager
async def tasks_run(queue: Conveyor) -> AsyncIterator[Traffic]:
    """Tasks come and go all the while; at the end every one of them has succeeded."""
    traffic = Traffic(queue)
    async with at_work(queue), asyncio.TaskGroup() as group:
        group.create_task(traffic.flow())
        yield traffic
        results = await traffic.stop()
    assert results == [f"n{number}" for number in range(len(results))]


async def test_the_models_are_what_the_revisions_make(database: Database) -> None:
    await schema.upgrade(database)
    assert await on(database, differences) == []


@pytest.mark.unmeasured
@pytest.mark.slow
async def test_every_revision_goes_up_and_down_with_data_while_tasks_run(
    queue: Conveyor, database: Database
) -> None:
    async with tasks_run(queue) as traffic:
        for revision in REVISIONS:
            await traffic.another()
            before = await on(database, counts)
            assert await schema.upgrade(database, revision)
            after = await on(database, counts)
            assert {name: after[name] for name in before} == before, revision
            await fill(database)
        full = await on(database, counts)
        assert all(full.values()), full
        for revision in [*REVISIONS[-2::-1], "base"]:
            await traffic.another()
            assert await schema.downgrade(database, revision)
            left = await on(database, counts)
            assert {name: full[name] for name in left} == left, revision
        assert await on(database, counts) == {}
        await schema.upgrade(database)
    assert await on(database, differences) == []
