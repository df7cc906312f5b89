"""Which revision the console's database is at, and how it gets to another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from conveyor.errors import SchemaMismatch
from conveyor_console.db.base import PREFIX
from conveyor_console.db.engine import Database

VERSION_TABLE = f"{PREFIX}schema"
_FOLDER = Path(__file__).parent / "migrations"


async def upgrade(database: Database, revision: str = "head") -> list[str]:
    """Bring the database to a revision; returns the revisions that were run."""
    if revision == "head" and await _current(database) == _head():
        return []
    return await _run(database, lambda config: command.upgrade(config, revision))


async def downgrade(database: Database, revision: str) -> list[str]:
    """Take the database back to a revision; returns the revisions it had and has."""
    return await _run(database, lambda config: command.downgrade(config, revision))


async def check(database: Database) -> None:
    """Raise `SchemaMismatch` when the database is not at this version's revision."""
    found, wanted = await _current(database), _head()
    if found != wanted:
        raise SchemaMismatch(
            f"the console's database is at revision {found or 'none'}, this version needs "
            f"{wanted}: run `conveyor console migrate`"
        )


async def _run(database: Database, act: Callable[[Config], Any]) -> list[str]:
    def run(connection: Connection) -> list[str]:
        before = _revision(connection)
        config = _config()
        config.attributes["connection"] = connection
        act(config)
        after = _revision(connection)
        return [] if before == after else [f"console: {before or 'nothing'} → {after or 'nothing'}"]

    # Compiled now, not while others wait for the one writer of a file.
    _head()
    if database.is_file:
        return await asyncio.to_thread(_in_thread, database, run)
    async with database.writing() as session:
        return await (await session.connection()).run_sync(run)


def _in_thread(database: Database, run: Callable[[Connection], list[str]]) -> list[str]:
    with database.writing_in_thread() as connection:
        return run(connection)


async def _current(database: Database) -> str | None:
    async with database.reading() as session:
        return await (await session.connection()).run_sync(_revision)


@cache
def _head() -> str | None:
    """The newest revision; to find it all are loaded."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _revision(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config
