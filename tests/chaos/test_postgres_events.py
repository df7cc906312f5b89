"""A reader of events passes no writer that commits late, whatever the order of the numbers."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from conveyor.testing.conformance.rig import Rig
from tests.chaos.rigs import rig_on
from tests.chaos.test_postgres_faults import migrated

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]
WRITE = """
    INSERT INTO conveyor.event (at, queue, state, execution, ids)
    VALUES (1, 'q', 2, 0, ARRAY[gen_random_uuid()]) RETURNING ids[1]::text
"""


@pytest.fixture
async def rig(postgres_url: str) -> AsyncIterator[Rig]:
    await migrated(postgres_url)
    async with rig_on(postgres_url) as rig:
        yield rig


@pytest.fixture
async def writers(postgres_url: str) -> AsyncIterator[list[Any]]:
    found = [await asyncpg.connect(postgres_url) for _ in range(2)]
    for writer in found:
        await writer.execute("SET search_path = conveyor")
        await writer.execute("BEGIN")
    yield found
    for writer in found:
        await writer.close()


async def seen(rig: Rig, after: str = "") -> list[str]:
    return [event.id for event in await rig.broker.inspector.events(after)]


@pytest.mark.parametrize("lower_number_first", [True, False])
async def test_nobody_is_passed(rig: Rig, writers: list[Any], lower_number_first: bool) -> None:
    """The second place is shown first, whoever of the two has the lower transaction number."""
    one, two = writers
    for writer in writers if lower_number_first else reversed(writers):
        await writer.fetchval("SELECT pg_current_xact_id()")
    first, second = await one.fetchval(WRITE), await two.fetchval(WRITE)
    assert await seen(rig) == []
    await two.execute("COMMIT")
    assert await seen(rig) == []
    assert await seen(rig) == []
    await one.execute("COMMIT")
    assert await seen(rig) == [first, second]


async def test_what_came_later_waits_for_its_own_predecessors(
    rig: Rig, writers: list[Any], postgres_url: str
) -> None:
    one, two = writers
    await one.fetchval(WRITE)
    second = await two.fetchval(WRITE)
    await two.execute("COMMIT")
    assert await seen(rig) == []
    await two.execute("BEGIN")
    third = await two.fetchval(WRITE)
    fourth = (await rig.pushed()).id
    await one.execute("ROLLBACK")
    assert await seen(rig) == [second]
    await two.execute("COMMIT")
    assert await seen(rig) == [second, third, fourth]


async def test_a_writer_that_is_rolled_back_is_not_waited_for(rig: Rig, writers: list[Any]) -> None:
    one, two = writers
    await one.fetchval(WRITE)
    second = await two.fetchval(WRITE)
    await two.execute("COMMIT")
    assert await seen(rig) == []
    await one.execute("ROLLBACK")
    assert await seen(rig) == [second]
