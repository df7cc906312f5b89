"""The fault proxy in front of PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from tests.faults import Act, Command, FaultProxy, Phase
from tests.servers import PostgresServer

LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)


@pytest.fixture
def table_url(postgres: PostgresServer, postgres_url: str) -> str:
    postgres.execute("CREATE TABLE t (n int PRIMARY KEY)", url=postgres_url)
    return postgres_url


@pytest.fixture
def proxy(table_url: str) -> Iterator[FaultProxy]:
    with FaultProxy.before(table_url) as proxy:
        yield proxy


@pytest.fixture
async def connection(proxy: FaultProxy) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(proxy.url, timeout=10)
    # All that connecting needed is not what the tests are about.
    proxy.restart_numbers()
    yield connection
    connection.terminate()


def rows(postgres: PostgresServer, url: str) -> list[int]:
    return [row[0] for row in postgres.fetch("SELECT n FROM t ORDER BY n", url=url)]


async def test_without_faults_all_passes(proxy: FaultProxy, connection: Any) -> None:
    assert await connection.fetchval("SELECT $1::int + 1", 1) == 2
    await connection.executemany("INSERT INTO t VALUES ($1)", [(n,) for n in range(50)])
    await connection.copy_records_to_table("t", records=[(n,) for n in range(50, 60)])
    async with connection.transaction():
        cursor = await connection.cursor("SELECT n FROM t ORDER BY n")
        assert [r[0] for r in await cursor.fetch(60)] == list(range(60))
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("INSERT INTO t VALUES ($1)", 1)
    big = await connection.fetchval("SELECT repeat('x', 3000000)")
    assert len(big) == 3_000_000
    counts = proxy.counts
    assert counts["Bind"] == counts["Execute"] >= 52
    assert counts["Parse"] >= 4


async def test_notifications_pass_unasked(connection: Any, table_url: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener("bell", lambda *args: heard.put_nowait(args[3]))
    other = await asyncpg.connect(table_url)
    await other.execute("NOTIFY bell, 'ding'")
    await other.close()
    async with asyncio.timeout(10):
        assert await heard.get() == "ding"


@pytest.mark.parametrize(("phase", "expected"), [("before", [1]), ("after", [1, 2])])
async def test_the_second_statement_is_lost_or_its_reply(
    proxy: FaultProxy,
    connection: Any,
    postgres: PostgresServer,
    table_url: str,
    phase: Phase,
    expected: list[int],
) -> None:
    rule = proxy.at(2, phase, Act.RESET)
    await connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(LOST):
        await connection.execute("INSERT INTO t VALUES (2)")
    assert rule.fired.is_set()
    assert rows(postgres, table_url) == expected


@pytest.mark.parametrize(("phase", "expected"), [("before", []), ("after", [7])])
async def test_a_prepared_statement_is_committed_after_and_not_before(
    proxy: FaultProxy,
    connection: Any,
    postgres: PostgresServer,
    table_url: str,
    phase: Phase,
    expected: list[int],
) -> None:
    seen: list[str] = []

    def hook(command: Command, at: Phase) -> Act:
        if command.name != "Execute" or at != phase:
            return Act.FORWARD
        seen.append(command.sql)
        return Act.RESET

    proxy.on_command = hook
    with pytest.raises(LOST):
        await connection.execute("INSERT INTO t VALUES ($1)", 7)
    assert seen == ["INSERT INTO t VALUES ($1)"]
    assert rows(postgres, table_url) == expected


@pytest.mark.parametrize(("number", "expected"), [(1, []), (2, []), (3, [1])])
async def test_a_transaction_is_there_only_after_its_commit(
    proxy: FaultProxy,
    connection: Any,
    postgres: PostgresServer,
    table_url: str,
    number: int,
    expected: list[int],
) -> None:
    proxy.at(number, "after", Act.RESET)
    with pytest.raises(LOST):
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES ($1)", 1)
    assert rows(postgres, table_url) == expected


async def test_silence_keeps_the_connection(proxy: FaultProxy, connection: Any) -> None:
    proxy.at(1, "after", Act.SILENCE)
    query = asyncio.ensure_future(connection.execute("SELECT 1"))
    done, _ = await asyncio.wait([query], timeout=0.2)
    assert not done
    assert proxy.connections == 1
    proxy.reset()
    with pytest.raises(LOST):
        await query


async def test_refuse_and_heal(proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(proxy.url, timeout=5)
    proxy.heal()
    connection = await asyncpg.connect(proxy.url, timeout=10)
    await connection.close()
