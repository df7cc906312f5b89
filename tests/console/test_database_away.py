"""While the console's database is away: 503 with a time to come back, never a 500, and no waiting
without an end."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import greenlet_spawn

from conveyor_console.console import Console
from conveyor_console.db.engine import Database
from conveyor_console.db.epoch import Epoch
from tests.console.conftest import Api

pytestmark = pytest.mark.rounds


@pytest.mark.parametrize("database_kind", ["postgres"])
async def test_however_it_is_away_the_answer_says_when_to_come_back(
    app: FastAPI, console: Console, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    anyone = httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://console.test",
    )
    pools = []
    for error in (
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        TimeoutError(),
        ConnectionRefusedError(),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    ):

        async def away(*_: Any, error: Exception = error, **__: Any) -> Any:
            raise error

        await console.epoch.close()
        pools.append(console.database.engine.pool)
        await console.database.engine.dispose()
        with monkeypatch.context() as patch:
            patch.setattr(asyncpg, "connect", away)
            for path in ("/api/v1/auth/me", "/readyz"):
                client = anyone if path == "/readyz" else admin.http
                answer = await client.get(path)
                assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "2"), error
            assert (await anyone.get("/livez")).status_code == 200
    await admin.call("GET", "/auth/me")
    for pool in pools:
        # Where rounds of the console gave back what they had when the pool was left.
        await greenlet_spawn(pool.dispose)


async def test_a_server_that_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("conveyor_console.db.epoch.PATIENCE", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = Database(f"postgresql://nobody@127.0.0.1:{port}/none?ssl=disable")
    epoch = Epoch(database)
    try:
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(5):
                await epoch.read()
    finally:
        await epoch.close()
        await database.close()
        server.close()
        await server.wait_closed()


async def test_whoever_was_in_the_way_of_another_may_try_again(
    app: FastAPI, console: Console, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PostgreSQL says when it ends a deadlock."""
    original: Any = Exception("deadlock detected")
    original.sqlstate = "40P01"

    def crossed(*_: Any) -> Any:
        raise DBAPIError("UPDATE", {}, original)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "reading", crossed)
        answer = await admin.http.get("/api/v1/users")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "send it again" in answer.json()["detail"]
