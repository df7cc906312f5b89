"""The revision and the models say the same, and it can be taken back with data in it."""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from benchmarks.history import fill
from conveyor_console.db import schema
from conveyor_console.db.base import Base
from conveyor_console.db.engine import Database
from conveyor_console.history import models

TABLES = {
    one.__tablename__
    for one in vars(models).values()
    if isinstance(one, type) and hasattr(one, "__tablename__")
}


async def test_the_revision_makes_what_the_models_say(database_url: str) -> None:
    def differences(connection: Connection) -> Any:
        def mine(thing: Any, name: str | None, kind: str, *_: Any) -> bool:
            table = name if kind == "table" else thing.table.name
            return table in TABLES

        context = MigrationContext.configure(
            connection, opts={"include_object": mine, "compare_type": True}
        )
        return compare_metadata(context, Base.metadata)

    database = Database(database_url)
    try:
        await schema.upgrade(database)
        async with database.reading() as session:
            assert await (await session.connection()).run_sync(differences) == []
    finally:
        await database.close()


async def test_it_goes_back_and_forth_with_data(database_url: str) -> None:
    database = Database(database_url)
    try:
        for _ in range(2):
            await schema.upgrade(database, "0002")
            await fill(database, 100)
            await schema.downgrade(database, "0001")
        await schema.upgrade(database)
    finally:
        await database.close()
