"""Bells ring after the commit, on a connection of their own (ADR 0013)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from conveyor.testing.conformance.rig import Rig
from tests.chaos.rigs import rig_on
from tests.chaos.test_postgres_faults import migrated

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]


@pytest.fixture
async def rig(postgres_url: str) -> AsyncIterator[Rig]:
    await migrated(postgres_url)
    async with rig_on(postgres_url) as rig:
        yield rig


async def test_a_producer_that_leaves_at_once_has_rung(rig: Rig, postgres_url: str) -> None:
    rung = asyncio.Event()
    async with rig.broker.listen("w", ["q"], rung.set):
        async with rig_on(postgres_url) as producer:
            await producer.pushed()
        async with asyncio.timeout(5):
            await rung.wait()
