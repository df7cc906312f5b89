"""Revisions 0005 and later make what their models say, and are taken back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import inspect

from conveyor_console import app as _app  # noqa: F401 - every model is imported
from conveyor_console.db import schema
from conveyor_console.db.engine import Database
from tests.console import test_revision_0004 as before

MINE = ("console_bulk_action", "console_saved_view")


@pytest.fixture
async def database(database_url: str) -> Any:
    database = Database(database_url)
    yield database
    await database.close()


async def test_it_makes_what_the_models_say_and_goes_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before, "MINE", MINE)
    await schema.upgrade(database)
    assert await before._on(database, before._differences) == []
    await schema.downgrade(database, "0004")
    tables = await before._on(database, lambda connection: inspect(connection).get_table_names())
    assert not [name for name in tables if name.startswith(MINE)]
    assert "console_webhook" in tables
    await schema.upgrade(database)
    assert await before._on(database, before._differences) == []
