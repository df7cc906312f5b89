"""The history when things break: a store that is emptied, events that are cut, outages, kills."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import text

from conveyor import Conveyor
from conveyor.errors import BrokerUnavailable
from conveyor_console.app import create_app
from conveyor_console.auth.passwords import Passwords
from conveyor_console.console import Console
from conveyor_console.history.retention import verify_letters
from conveyor_console.settings import Settings
from tests.console.conftest import QUICK, TestClock
from tests.console.history_kit import counted, letters, migrated, outcomes, shop, truth
from tests.running import at_work, ended
from tests.servers import ValkeyServer
from tests.worker.harness import soon

pytestmark = pytest.mark.rounds

TASKS = int(os.environ.get("HISTORY_TASKS", "4000"))
"""The acceptance is at 100,000."""


@pytest.fixture
async def queue(broker_url: str) -> AsyncIterator[Conveyor]:
    await migrated(broker_url)
    async with shop(broker_url) as queue:
        yield queue


@pytest.fixture
async def console(queue: Conveyor, settings: Settings, clock: TestClock) -> AsyncIterator[Console]:
    made: Console = create_app(
        queue, settings, clock=clock, passwords=Passwords(QUICK)
    ).state.console
    yield made
    await made.rest()
    await made.close()


async def work(queue: Conveyor, number: int) -> list[str]:
    """Let so many tasks succeed, and one fail; their ids."""
    greet, fail = queue.definitions["shop.greet"], queue.definitions["shop.fail"]
    calls: list[Any] = [greet.bind(str(one)) for one in range(number)]
    handles = await queue.enqueue_many([*calls, fail.bind("no money")])
    async with at_work(queue, concurrency=50):
        for handle in handles:
            await ended(handle)
    return [handle.id for handle in handles]


@pytest.mark.parametrize("more", [3, 60])
async def test_the_history_outlives_an_emptied_store(
    redis_url: str, settings: Settings, clock: TestClock, valkey: ValkeyServer, more: int
) -> None:
    """Also when the new store has told more events by then than the old one ever had."""
    async with shop(redis_url) as queue:
        made: Console = create_app(
            queue, settings, clock=clock, passwords=Passwords(QUICK)
        ).state.console
        try:
            await work(queue, 20)
            await made.recorder.catch_up()
            with valkey.client() as client:
                client.flushall()
            await work(queue, more)
            await made.recorder.catch_up()
            assert await counted(made) == {"succeeded": 20 + more, "failed": 2}
            assert len(await letters(made)) == 2
            await verify_letters(made.database, await queue.inspector(), "")
            assert len(await letters(made)) == 1
        finally:
            await made.rest()
            await made.close()


async def test_events_that_were_cut_are_made_up_for(
    queue: Conveyor, console: Console, broker_url: str, request: pytest.FixtureRequest
) -> None:
    await work(queue, 5)
    await console.recorder.catch_up()
    await work(queue, 30)
    await _cut_events(queue, broker_url, request)
    await work(queue, 5)
    await console.recorder.catch_up()
    assert await counted(console) == await truth(queue) == {"succeeded": 40, "failed": 3}
    assert (await console.recorder._load()).sweep is None


async def _cut_events(queue: Conveyor, url: str, request: pytest.FixtureRequest) -> None:
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(
                "DELETE FROM conveyor_event WHERE seq < (SELECT max(seq) FROM conveyor_event)"
            )
            connection.commit()
    elif url.startswith("redis"):
        with request.getfixturevalue("valkey").client() as client:
            for key in client.keys("*:ev"):
                client.xtrim(key, maxlen=1, approximate=False)
    else:
        import asyncpg

        server: Any = await asyncpg.connect(url)
        try:
            schemas = await server.fetch(
                "SELECT schemaname FROM pg_tables WHERE tablename = 'event'"
            )
            await server.execute(f"DELETE FROM {schemas[0][0]}.event")
        finally:
            await server.close()


async def test_an_outage_is_waited_for(
    queue: Conveyor, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = 3
    real = queue.inspector

    async def inspector() -> Any:
        nonlocal broken
        if broken:
            broken -= 1
            raise KeyError("what nobody thought of") if broken == 1 else BrokerUnavailable("away")
        return await real()

    await work(queue, 3)
    monkeypatch.setattr("conveyor_console.history.recorder._PAUSE", 0.01)
    monkeypatch.setattr(queue, "inspector", inspector)
    console.recorder.start()

    async def done() -> bool | None:
        return await counted(console) == {"succeeded": 3, "failed": 1} or None

    await soon(done, 10)
    assert broken == 0


async def test_only_what_can_be_learned_no_more_is_lost(
    queue: Conveyor, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not who lives again when it is looked up, be it since before the events were read or since
    then; who was deleted is."""
    recorder, broker = console.recorder, (await queue.client()).broker

    async def lost_when(happens: Callable[[list[str]], Any], *, late: bool) -> int:
        before = (await recorder._load()).lost
        ids = (await work(queue, 1))[1:]
        real = recorder._fetch

        async def fetch(ended: dict[str, str]) -> Any:
            await happens(ids)
            return await real(ended)

        if not late:
            await happens(ids)
        with monkeypatch.context() as patch:
            if late:
                patch.setattr(recorder, "_fetch", fetch)
            await recorder.record()
        return (await recorder._load()).lost - before

    for late in (False, True):
        assert await lost_when(broker.requeue, late=late) == 0
        assert await lost_when(broker.discard, late=late) == 1
    async with at_work(queue):

        async def idle() -> bool | None:
            counts = await (await queue.inspector()).counts()
            return not any(n for state, n in counts.items() if not state.is_final) or None

        await soon(idle, 10)
    await recorder.catch_up()
    assert await counted(console) == {"succeeded": 4, "failed": 2}


async def test_old_tasks_go_in_chunks(queue: Conveyor, console: Console) -> None:
    from conveyor_console.history.retention import prune

    await work(queue, 9)
    await console.recorder.catch_up()
    now = (await (await queue.inspector()).get((await work(queue, 1))[0])).enqueued_at
    assert await prune(console.database, now, 1) == 0
    pruned = [await prune(console.database, now + 2 * 86_400, 1, most=4) for _ in range(4)]
    assert pruned == [4, 4, 2, 0]
    assert await letters(console) == set()
    async with console.database.reading() as db:
        for table in ("task", "task_execution", "task_result", "rollup", "histogram", "failure"):
            rows = await db.execute(text(f"SELECT count(*) FROM console_{table}"))
            assert rows.scalar_one() == 0, table


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.unmeasured
async def test_the_history_equals_the_truth_whoever_is_killed(
    queue: Conveyor,
    console: Console,
    broker_url: str,
    settings: Settings,
    record_property: Callable[[str, object], None],
) -> None:
    """Acceptance 4: failures, retries, cancellations, requeues, and a recorder killed again and
    again in the middle."""
    dice = random.Random(4)
    kills: list[int] = []
    killer = asyncio.create_task(_kill_again_and_again(broker_url, settings, dice, kills))
    try:
        ids = await _all_sorts(queue, dice)

        async def enough() -> bool | None:
            return len(kills) >= 3 or None

        await soon(enough, 60)
    finally:
        killer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killer
    await console.recorder.catch_up()
    assert await counted(console) == await truth(queue)
    expected = await _executions(queue, ids)
    assert sum((await outcomes(console)).values()) == expected
    async with console.database.reading() as db:
        sums = await db.execute(text("SELECT sum(executions) FROM console_rollup WHERE span = 60"))
        assert sums.scalar_one() == expected
    lost = (await console.recorder._load()).lost
    assert lost == 0
    record_property("ledger", f"{len(ids)} tasks, {expected} executions, {len(kills)} kills")


async def _all_sorts(queue: Conveyor, dice: random.Random) -> list[str]:
    names = queue.definitions
    ids: list[str] = []
    broker = (await queue.client()).broker
    async with at_work(queue, concurrency=200):
        for start in range(0, TASKS, 1_000):
            calls: list[Any] = []
            for number in range(start, min(TASKS, start + 1_000)):
                chance = dice.random()
                if chance < 0.03:
                    calls.append(names["shop.fail"].bind("no money"))
                elif chance < 0.08:
                    calls.append(names["shop.recover"].bind(number))
                elif chance < 0.09:
                    calls.append(names["shop.reject"].bind())
                elif chance < 0.12:
                    calls.append(names["shop.greet"].with_options(delay=3_600).bind("late"))
                else:
                    calls.append(names["shop.greet"].bind(str(number)))
            handles = await queue.enqueue_many(calls)
            ids += [handle.id for handle in handles]
            late = [
                handle.id
                for handle, call in zip(handles, calls, strict=True)
                if call.options.delay is not None
            ]
            await broker.cancel(late)
            await broker.requeue(ids[start // 2 : start // 2 + 50])
        inspector = await queue.inspector()

        async def idle() -> bool | None:
            counts = await inspector.counts()
            return not any(n for state, n in counts.items() if not state.is_final) or None

        await broker.cancel([info.id for info in await _scheduled(queue)])
        await soon(idle, 600)
    return ids


async def _scheduled(queue: Conveyor) -> list[Any]:
    from conveyor.inspect import Filter, State

    inspector = await queue.inspector()
    return await inspector.tasks(Filter(states=(State.SCHEDULED,), limit=100_000))


async def _executions(queue: Conveyor, ids: list[str]) -> int:
    inspector = await queue.inspector()
    number = 0
    for start in range(0, len(ids), 1_000):
        found = await inspector.finished(ids[start : start + 1_000])
        number += sum(len(one.info.executions) for one in found)
    return number


async def _kill_again_and_again(
    url: str, settings: Settings, dice: random.Random, kills: list[int]
) -> None:
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.console.recording",
            url,
            settings.database_url or "",
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            await process.stdout.readline()
            await asyncio.sleep(0.05 + dice.random() * min(2, TASKS / 20_000))
        finally:
            process.kill()
            await process.communicate()
            kills.append(process.pid)
