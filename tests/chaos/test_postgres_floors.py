"""Claims begin where the last one ended, and yet find what turns up below (ADR 0008)."""

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from conveyor.brokers.base import Broker, Settlement, Step
from conveyor.brokers.postgres.connection import HOT, Connection
from conveyor.brokers.postgres.connection import connect as connect_session
from conveyor.brokers.postgres.floors import Floors
from conveyor.brokers.postgres.options import locate
from conveyor.brokers.postgres.push import push
from conveyor.brokers.postgres.step import step
from conveyor.brokers.url import connect
from conveyor.core.gates import Gate
from conveyor.core.outcome import Interrupted
from conveyor.core.task import NewTask, State, Task
from conveyor.testing.conformance.gates_rig import gated
from conveyor.testing.conformance.rig import Capabilities, Rig, ids, ok
from tests.chaos.test_postgres_faults import migrated

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]
DEADLINE = 10
PLENTY = Gate("plenty", most=1_000_000)


@pytest.fixture
async def rig(postgres_url: str) -> AsyncIterator[Rig]:
    """A rig whose clock is the server's."""
    await migrated(postgres_url)
    rig = Rig(lambda _: connect(postgres_url), Capabilities())
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


@pytest.fixture
async def session(postgres_url: str, rig: Rig) -> AsyncIterator[Connection]:
    """Another program's session in the same schema."""
    connection = await connect_session(locate(postgres_url), HOT)
    yield connection
    await connection.close()


async def drained(rig: Rig, want: int = 10) -> list[str]:
    """Lease until nothing is left; return the ids."""
    found: list[str] = []
    while leased := await rig.waiting_ids(want=want):
        found += leased
    return found


async def found_in_time(rig: Rig, *tasks: Task) -> None:
    """Wait until a worker that keeps stepping was given exactly these tasks."""
    missing = set(ids(tasks))
    async with asyncio.timeout(DEADLINE):
        while missing:
            leased = await rig.waiting_ids()
            assert missing.issuperset(leased)
            missing.difference_update(leased)


async def raise_floors(rig: Rig, rounds: int = 5) -> None:
    """Push and lease until the floors are as high as they get."""
    for _ in range(rounds):
        await rig.push(*(rig.task(priority=level) for level in range(10)))
        assert len(await drained(rig)) == 10


async def test_a_push_that_commits_late_is_found(rig: Rig, session: Connection) -> None:
    await raise_floors(rig)
    tasks = [rig.task(priority=level) for level in (0, 5, 9)]
    async with session.transaction():
        await push(session, [NewTask(task) for task in tasks], None)
        await raise_floors(rig)
    await found_in_time(rig, *tasks)


async def test_a_push_to_a_lane_that_commits_late_is_found(rig: Rig, session: Connection) -> None:
    """While the lane moves on: its floor stays below what was stored and not yet in sight."""
    first, late = gated(rig, PLENTY), gated(rig, PLENTY)
    found: list[str] = []
    await rig.push(first, *(gated(rig, PLENTY) for _ in range(5)))
    async with session.transaction():
        await push(session, [NewTask(late)], None)
        for _ in range(5):
            await rig.push(*(gated(rig, PLENTY) for _ in range(5)))
            found += await rig.waiting_ids(want=5)
    assert late.id not in found
    assert await rig.is_healthy()
    assert late.id in await drained(rig)


async def test_a_lane_is_entered_below_its_floor_when_the_clock_goes_back(
    rig: Rig, session: Connection
) -> None:
    await rig.push(*(gated(rig, PLENTY) for _ in range(9)))
    assert len([await rig.waiting_ids(want=1) for _ in range(5)]) == 5
    early = gated(rig, PLENTY)
    await push(session, [NewTask(early)], time.time() - 3600)
    assert await rig.is_healthy()
    assert early.id in await drained(rig)


async def test_a_task_below_the_floor_of_its_lane_is_found_in_the_end(
    rig: Rig, session: Connection
) -> None:
    """Whatever theory it was that failed."""
    await raise_floors(rig)
    tasks = [gated(rig, PLENTY) for _ in range(3)]
    await rig.push(*tasks)
    await session.execute("UPDATE lane SET low = extract(epoch FROM clock_timestamp())")
    await found_in_time(rig, *tasks)


async def test_a_claim_that_rolled_back_is_found(rig: Rig, session: Connection) -> None:
    tasks = [rig.task(priority=level) for level in (0, 5, 9)]
    await rig.push(*tasks)
    claim = session.transaction()
    await claim.start()
    assert await session.execute("DELETE FROM ready") == "DELETE 3"
    await raise_floors(rig)
    await claim.rollback()
    await found_in_time(rig, *tasks)


async def test_what_becomes_available_again_is_found(rig: Rig) -> None:
    """Promoted, put back, requeued: all of them after the floors rose over their old places."""
    later = await rig.pushed(delay=0.2)
    back, dead = await rig.pushed(), await rig.pushed()
    await rig.worker()
    leases = {lease.task.id: lease for lease in (await rig.step()).leases}
    await raise_floors(rig)
    assert await rig.settle(leases[back.id], Interrupted())
    await rig.broker.cancel([dead.id])
    assert await rig.settle(leases[dead.id], Interrupted())
    assert await rig.broker.requeue([dead.id]) == [dead.id]
    await found_in_time(rig, back, dead, later)


async def test_a_promoted_task_can_be_cancelled(rig: Rig) -> None:
    task = await rig.pushed(delay=0.01)
    async with asyncio.timeout(DEADLINE):
        while not (await rig.broker.tidy()).promoted:
            pass
    assert await rig.broker.cancel([task.id]) == {task.id: State.CANCELLED}
    assert await drained(rig) == []
    assert await rig.is_healthy()


async def work(broker: Broker, rig: Rig, worker: str, total: int, runs: Counter[str]) -> None:
    """Lease and settle until all workers together have run `total` tasks."""
    await broker.renew([worker], 600)
    ends: list[Settlement] = []
    while ends or runs.total() < total:
        reply = await broker.step(Step(worker, ["q"], 7, ends))
        assert not reply.refused
        ends = [rig.settlement(lease, ok()) for lease in reply.leases]
        runs.update(lease.task.id for lease in reply.leases)


async def test_many_workers_miss_nothing_among_late_commits(rig: Rig, postgres_url: str) -> None:
    """Producers leave their transactions open while others push, and some claims roll back."""
    brokers = [rig.broker, *[await rig.another() for _ in range(3)]]
    tasks = [rig.task(priority=n % 10) for n in range(600)]
    runs: Counter[str] = Counter()

    async def produce(mine: list[Task]) -> None:
        session = await connect_session(locate(postgres_url), HOT)
        for start in range(0, len(mine), 10):
            async with session.transaction():
                await push(session, [NewTask(task) for task in mine[start : start + 10]], None)
                seen = runs.total()
                # Late: others commit and are leased meanwhile, if there are any others left.
                for _ in range(50):
                    if runs.total() > seen + 20:
                        break
                    await session.fetchval("SELECT 1")
            async with session.transaction():
                await session.execute("SELECT FROM ready LIMIT 5 FOR UPDATE SKIP LOCKED")
        await session.close()

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(produce(tasks[index::4]) for index in range(4)),
            *(work(brokers[n % 4], rig, f"w{n}", len(tasks), runs) for n in range(8)),
        )
    assert runs == Counter(ids(tasks))
    assert await rig.counts() == {State.SUCCEEDED: len(tasks)}
    assert await rig.is_healthy()


async def pages_touched(session: Connection, floors: Floors) -> int:
    """Lease one task; return how many pages that touches. It is run twice, first for nothing."""
    pages = 0

    class Measured:
        async def fetchrow(self, statement: str, *values: Any) -> asyncpg.Record:
            nonlocal pages
            trial = session.transaction()
            await trial.start()
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            (plan,) = json.loads(await session.fetchval(explained, *values))
            await trial.rollback()
            pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
            return await session.fetchrow(statement, *values)

    reply = await step(Measured(), Step("w", ["q"], 1), floors, None)
    assert len(reply.leases) == 1
    return pages


@pytest.mark.parametrize("kind", ["one level", "five levels", "gated"])
async def test_a_held_snapshot_does_not_make_claims_dearer(
    rig: Rig, session: Connection, postgres_url: str, kind: str
) -> None:
    """Under a backup's snapshot, the last claims touch as many pages as the first ones."""
    levels = 5 if kind == "five levels" else 1
    await rig.push(
        *(
            gated(rig, PLENTY) if kind == "gated" else rig.task(priority=n % levels)
            for n in range(8_000)
        )
    )
    await rig.worker()
    backup, floors = await connect_session(locate(postgres_url), {}), Floors(session)
    async with backup.transaction(isolation="repeatable_read", readonly=True):
        await backup.fetchval("SELECT count(*) FROM meta")
        first = [await pages_touched(session, floors) for _ in range(9)]
        for _ in range(15):
            assert (await step(session, Step("w", ["q"], 500), floors, None)).leases
        last = [await pages_touched(session, floors) for _ in range(9)]
    await backup.close()
    if kind == "gated":
        # A step leaves a version of its lane and its gate behind. The tasks it took are many more.
        assert statistics.median(last) < statistics.median(first) + 15 * 20
    else:
        assert statistics.median(last) < 1.5 * statistics.median(first)
