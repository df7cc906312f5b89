"""The server is killed and comes back in mid-run: nothing is lost, the worker goes on (D22)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.ledger import (
    Counts,
    end,
    settle_accounts,
    start_worker,
    started,
    starts,
    violations,
)
from tests.chaos.work import app, fifty
from tests.servers import PostgresServer, ValkeyServer
from tests.stores import migrate

TASKS = 400
pytestmark = [pytest.mark.unmeasured, pytest.mark.chaos, pytest.mark.timeout(180)]


async def crash_and_return(server: ValkeyServer | PostgresServer, url: str, log: Path) -> Counts:
    app.url = url
    async with app:
        handles = await app.enqueue_many(fifty.bind(number) for number in range(TASKS))
        ids = [handle.id for handle in handles]
    worker = start_worker(url, log)
    try:
        await started(log, 80)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        before = len(starts(log))
        async with asyncio.timeout(10):
            await started(log, before + 16)
        async with app:
            counts = await settle_accounts([app.handle(task_id) for task_id in ids], log)
            assert await violations() == []
    finally:
        code = end(worker)
    assert (counts.ok, counts.lost, counts.unexpected, code) == (TASKS, 0, [], 0), counts
    return counts


async def test_redis_with_append_only_file_always(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with ValkeyServer(aof="always") as server:
        counts = await crash_and_return(server, server.url, tmp_path / "starts")
    record_property("ledger", str(counts))


async def test_postgresql(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    with PostgresServer(fsync=True) as server:
        url = server.create_database()
        await asyncio.to_thread(migrate, url)
        counts = await crash_and_return(server, url, tmp_path / "starts")
    record_property("ledger", str(counts))
