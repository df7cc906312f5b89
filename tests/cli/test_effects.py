"""`conveyor effects` and `conveyor outbox`."""

from __future__ import annotations

import asyncio
from typing import Any

from typer.testing import CliRunner

from conveyor import Conveyor
from conveyor.cli.main import app as cli
from conveyor.core.task import State
from conveyor.effects import effect
from tests.running import at_work, ended


class Died(BaseException):
    pass


async def _doubt(url: str) -> str:
    async with Conveyor(url) as app:

        @app.task(name="mail")
        async def mail() -> None:
            async with effect("smtp", "ada"):
                raise Died

        async with at_work(app):
            handle = await mail.with_options(max_attempts=2).enqueue()
            while (await ended(handle, 20)).state is not State.FAILED:
                pass
        return handle.id


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments))


def test_a_doubt_is_listed_and_decided(sqlite_url: str) -> None:
    task_id = asyncio.run(_doubt(sqlite_url))

    listed = _run("effects", "list", task_id, "--url", sqlite_url)
    assert "smtp" in listed.stdout
    assert "intended" in listed.stdout
    assert _run("effects", "decide", task_id, "--url", sqlite_url).exit_code == 2
    decided = _run("effects", "decide", task_id, "--not-happened", "--url", sqlite_url)
    assert "1 effect(s) cleared" in decided.stdout
    again = _run("effects", "decide", task_id, "--happened", "--url", sqlite_url)
    assert again.exit_code == 4
    assert '"cleared"' in _run("effects", "list", task_id, "--json", "--url", sqlite_url).stdout


def test_the_ddl_is_that_of_the_dialect() -> None:
    assert "BYTEA" in _run("outbox", "ddl").stdout
    assert "BLOB" in _run("outbox", "ddl", "--dialect", "sqlite").stdout
    assert _run("outbox", "ddl", "--dialect", "oracle").exit_code == 2
