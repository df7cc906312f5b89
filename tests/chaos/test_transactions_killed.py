"""Whoever dies, and whenever: a task is there if its transaction committed, and its effects count
once (I12)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from conveyor import Conveyor
from conveyor.core.errors import TaskNotFound
from conveyor.core.task import State
from conveyor.transactions import create_tables
from tests.chaos.bookings import SHOP, Base, Booking
from tests.chaos.ledger import ROOT, children, end
from tests.running import Stopwatch
from tests.sessions import async_url
from tests.worker.harness import soon

TASKS, KILLS = 150, 6
pytestmark = [pytest.mark.unmeasured, pytest.mark.chaos, pytest.mark.timeout(180)]
PLACES = ["sqlite-same", "postgres-same", "redis-outbox", "sqlite-outbox"]


@pytest.fixture(params=PLACES)
async def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The broker's URL and that of the shop's database, whose tables are there."""
    store, _, where = str(request.param).partition("-")
    url = str(request.getfixturevalue(f"{store}_url"))
    shop = url if where == "same" else f"sqlite:///{tmp_path / 'shop.db'}"
    engine = create_async_engine(async_url(shop))
    async with Conveyor(url):
        pass
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await create_tables(engine)
    await engine.dispose()
    return url, async_url(shop)


def environment(url: str, shop: str) -> dict[str, str]:
    return {**os.environ, SHOP: shop, "CONVEYOR_URL": url, "PYTHONPATH": str(ROOT)}


@contextmanager
def working(url: str, shop: str, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "conveyor", "worker", "tests.chaos.bookings:app", *options]
    with log.open("wb") as said:
        worker = subprocess.Popen(
            [*command, "--concurrency", "4"], cwd=ROOT, env=environment(url, shop), stderr=said
        )
    try:
        yield worker
    finally:
        end(worker)


async def killed_producer(url: str, shop: str, where: str, number: int) -> str:
    """Run one until it has killed itself; returns the id of its task."""
    producer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.bookings", where, str(number)),
        cwd=ROOT,
        env=environment(url, shop),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await producer.communicate()
    assert producer.returncode == -signal.SIGKILL
    return said.decode().strip()


@asynccontextmanager
async def looking(shop: str) -> AsyncIterator[Callable[[], Awaitable[list[int]]]]:
    """Yields what reads the numbers of the bookings in the shop's database."""
    engine = create_async_engine(shop)

    async def numbers() -> list[int]:
        async with engine.connect() as connection:
            return sorted((await connection.scalars(select(Booking.number))).all())

    try:
        yield numbers
    finally:
        await engine.dispose()


async def test_a_producer_that_dies_around_its_commit(
    places: tuple[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """D4: before it, nothing ever runs; after it, the task runs within a second or so."""
    url, shop = places
    with working(url, shop, tmp_path / "worker.err"):
        async with Conveyor(url) as app:
            lost = [await killed_producer(url, shop, "before", 1_001)]
            first = app.handle(await killed_producer(url, shop, "after", 1_002))
            await soon(lambda: _succeeded(app, first.id), 20)
            watch = Stopwatch()
            kept = app.handle(await killed_producer(url, shop, "after", 1_003))
            took = watch.seconds
            await soon(lambda: _succeeded(app, kept.id), 20)
            record_property("ledger", f"picked up {watch.seconds - took:.2f} s after the death")
            for task_id in lost:
                with pytest.raises(TaskNotFound):
                    await app.handle(task_id).info()
    async with looking(shop) as numbers:
        assert await numbers() == [-1_003, -1_002, 1_002, 1_003]


async def _succeeded(app: Conveyor, task_id: str) -> bool:
    with suppress(TaskNotFound):
        return await app.handle(task_id).status() is State.SUCCEEDED
    return False


@pytest.mark.slow
async def test_children_killed_while_they_commit(
    places: tuple[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """I12: as many rows as successes, each once, with what they enqueued."""
    url, shop = places
    dice = random.Random(3)
    async with looking(shop) as numbers, Conveyor(url, retry=None) as app:
        from tests.chaos.bookings import book

        calls = [app.task(name=book.name, queue="chaos", retry=book.retry)(_book)]
        handles = await app.enqueue_many(calls[0].bind(number) for number in range(TASKS))
        with working(url, shop, tmp_path / "worker.err", "--processes", "2") as worker:
            for kills in range(1, KILLS + 1):
                await soon(partial(_rows, numbers, kills * 2 * TASKS // (KILLS + 2)), 30)
                # A moment of its own, so that it falls now before a commit, now after one.
                await asyncio.sleep(dice.random() * 0.05)
                with suppress(ProcessLookupError, IndexError):
                    os.kill(dice.choice(children(worker)), signal.SIGKILL)
            for handle in handles:
                await handle.result(20)

            async def all_done() -> bool:
                counts = await (await app.inspector()).counts()
                return counts.get(State.SUCCEEDED, 0) == 2 * TASKS

            await soon(all_done, 20)
            found = await (await app.inspector()).check()
        booked = await numbers()
    record_property("ledger", f"{KILLS} kills, {2 * TASKS} tasks, {2 * TASKS} rows")
    assert booked == [*range(TASKS), *range(1_000, 1_000 + TASKS)]
    assert found == []


async def _rows(numbers: Callable[[], Awaitable[list[int]]], count: int) -> bool:
    return len(await numbers()) >= count


async def _book(number: int) -> int:
    return number
