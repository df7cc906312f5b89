"""Revision 0004 makes what the models of alerts, webhooks and notices say, and takes it back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select

from conveyor_console import app as _app  # noqa: F401 - every model is imported
from conveyor_console.db import schema
from conveyor_console.db.base import Base
from conveyor_console.db.engine import Database
from conveyor_console.live.notices import Notice
from conveyor_console.live.notices import add as add_notice
from conveyor_console.webhooks.models import Webhook

MINE = ("console_notice", "console_alert", "console_webhook")
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> Any:
    database = Database(database_url)
    yield database
    await database.close()


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_object": lambda _, name, kind, *__: kind != "table" or name.startswith(MINE),
        },
    )
    return list(compare_metadata(context, Base.metadata))


async def _on(database: Database, act: Any) -> Any:
    async with database.writing() as db:
        return await (await db.connection()).run_sync(act)


async def test_the_models_are_what_the_revision_makes(database: Database) -> None:
    await schema.upgrade(database)
    assert await _on(database, _differences) == []


async def test_it_goes_back_and_forth_with_data(database: Database) -> None:
    await schema.upgrade(database)
    async with database.writing() as db:
        add_notice(db, "n1", NOW, "alerts.firing", {"x": 1})
        db.add(
            Webhook(
                id="w1", name="x", url="https://example.com/", topics=["task.failed"],
                enabled=True, secret_sealed="s", created_by="ada", created_at=NOW,
                updated_at=NOW,
            )
        )  # fmt: skip
    await schema.downgrade(database, "0003")
    tables = await _on(database, lambda connection: inspect(connection).get_table_names())
    assert not [name for name in tables if name.startswith(MINE)]
    assert "console_user" in tables
    await schema.upgrade(database)
    async with database.reading() as db:
        assert list(await db.scalars(select(Notice))) == []
