"""What only the SQLite store promises: commits that are shared, order, its doctor, its gates. The
verbs themselves are proven by the conformance suite.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from conveyor.brokers.base import RETENTION_SECONDS, Pushed, Step
from conveyor.brokers.sqlite import invariants, views
from conveyor.brokers.sqlite.broker import SQLiteBroker
from conveyor.brokers.sqlite.statements import SQL
from conveyor.core.errors import BrokerFull, BrokerUnavailable, InvalidOption
from conveyor.core.task import State
from conveyor.testing.clock import ManualClock
from tests.unit.sqlite_kit import lease, on_writer, plain, success, task, writer_waits

pytestmark = pytest.mark.sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def broker(path: Path, clock: ManualClock) -> AsyncIterator[SQLiteBroker]:
    made = SQLiteBroker(f"sqlite:///{path}?busy_timeout=20", clock=clock)
    await made.open()
    yield made
    await made.close()


# -- commits


async def test_verbs_that_queue_up_share_a_commit(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}?busy_timeout=20")
    await broker.open()
    commits: list[str] = []
    await broker._opened().writer.read(
        lambda connection: connection.set_trace_callback(
            lambda text: commits.append(text) if text == "COMMIT" else None
        )
    )
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(broker.push([task()]))
        await writer_waits(path)
        rest = [asyncio.ensure_future(broker.push([task(key=f"k{n % 20}")])) for n in range(30)]
        await asyncio.sleep(0)
        other.execute("COMMIT")
        await asyncio.gather(first, *rest)
    # One that was waiting already, one for all others.
    assert len(commits) == 2
    assert (await broker.inspector.counts())[State.QUEUED] == 21
    assert await broker.inspector.check() == []
    await broker.close()


async def test_a_verb_that_fails_takes_nobody_along(broker: SQLiteBroker) -> None:
    old = task()
    await broker.push([old])
    fresh = [task(queue="new"), task(queue="new")]
    answers = await asyncio.gather(
        broker.push([fresh[0]]),
        broker._write(lambda tx: tx.known.queue("gone") // 0),
        broker.push([old, fresh[1]]),
        broker._write(lambda tx: tx.execute("SELECT nonsense")),
        return_exceptions=True,
    )
    assert answers[0] == [Pushed(fresh[0].task.id)]
    assert isinstance(answers[1], ZeroDivisionError)
    assert answers[2] == [Pushed(old.task.id), Pushed(fresh[1].task.id)]
    assert isinstance(answers[3], BrokerUnavailable)
    assert await broker.inspector.queue_names() == ["new", "q"]
    assert (await broker.inspector.counts())[State.QUEUED] == 3


async def test_a_cancelled_call_that_did_not_begin_never_does(
    broker: SQLiteBroker, path: Path
) -> None:
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(broker.push([task()]))
        await writer_waits(path)
        second = asyncio.ensure_future(broker.push([task()]))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        other.execute("COMMIT")
        await first
    assert (await broker.inspector.counts())[State.QUEUED] == 1


async def test_a_full_disk_stores_nothing_by_half(broker: SQLiteBroker) -> None:
    """D23."""
    await broker.push([task()])
    (held,) = await lease(broker)
    before = await broker.inspector.counts()
    pages = await on_writer(broker, "PRAGMA page_count")
    await on_writer(broker, f"PRAGMA max_page_count = {pages}")
    big = [task(payload=os.urandom(9_000)) for _ in range(50)]
    with pytest.raises(BrokerFull, match="has no room left on its disk; nothing was stored"):
        await broker.push(big)
    answers = await asyncio.gather(
        broker.push(big[:20]), broker.push(big[20:]), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [BrokerFull, BrokerFull]
    assert await broker.inspector.counts() == before
    assert await broker.inspector.check() == []
    await on_writer(broker, "PRAGMA max_page_count = 1000000")
    assert all(pushed.created for pushed in await broker.push(big))
    assert not (await broker.step(Step("w", ["q"], 0, [success(held)]))).refused


# -- housekeeping and order


async def test_an_expired_result_is_removed_before_its_task(
    broker: SQLiteBroker, clock: ManualClock, path: Path
) -> None:
    await broker.push([task(result_ttl=60.0), task(), task(result_ttl=60.0)])
    leases = await lease(broker)
    await broker.step(Step("w", ["q"], 0, [success(one, "x" * 1_000) for one in leases]))
    clock.advance(61)
    with plain(path) as other:

        def results() -> int:
            found = other.execute("SELECT count(result) FROM conveyor_finished").fetchone()
            return int(found[0])

        assert (await broker.tidy(1)).pruned == 1
        assert results() == 2
        assert (await broker.tidy(1)).pruned == 1
        assert results() == 1
        assert (await broker.tidy(1)).pruned == 0
    assert (await broker.inspector.counts())[State.SUCCEEDED] == 3
    clock.advance(RETENTION_SECONDS)
    assert (await broker.tidy()).pruned >= 3
    assert (await broker.inspector.counts())[State.SUCCEEDED] == 0


async def test_order_survives_that_all_events_were_pruned(
    broker: SQLiteBroker, clock: ManualClock
) -> None:
    """Order numbers are counted from the newest event, so that one is kept."""
    first, second = task(), task()
    await broker.push([first])
    await lease(broker, worker="gone")
    clock.advance(3 * RETENTION_SECONDS)
    while (await broker.tidy()).pruned:
        pass
    assert len(await broker.inspector.events()) == 1
    await broker.push([second])
    (held,) = await lease(broker, want=1)
    assert held.task == second.task
    assert (await broker.inspector.get(first.task.id)).state is State.RUNNING


async def test_cursors_of_elsewhere_are_refused(broker: SQLiteBroker) -> None:
    with pytest.raises(InvalidOption, match="the cursor of an event"):
        await broker.inspector.events("yesterday")


async def test_an_id_that_is_no_uuid_is_refused_by_push(broker: SQLiteBroker) -> None:
    with pytest.raises(InvalidOption, match="id='seven'"):
        await broker.push([task(), task(id="seven")])
    assert await broker.cancel(["seven"]) == {}
    assert (await broker.inspector.counts())[State.QUEUED] == 0


# -- doctor


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        ("DELETE FROM conveyor_ready", "I1"),
        ("UPDATE conveyor_task SET rank = rank + 1", "I1"),
        ("INSERT INTO conveyor_parked SELECT seq, queue, name FROM conveyor_task", "I1"),
        ("DELETE FROM conveyor_task", "I1"),
        ("UPDATE conveyor_finished SET state = 6", "I5"),
        ("INSERT INTO conveyor_execution SELECT seq, 7, record FROM conveyor_finished", "I3"),
        ("DELETE FROM conveyor_worker", "I6"),
        ("UPDATE conveyor_key SET expires = 1", "I7"),
        ("UPDATE conveyor_lease SET at = 0; UPDATE conveyor_worker SET until = 1", "I9"),
    ],
)
async def test_a_broken_invariant_is_found(
    broker: SQLiteBroker, path: Path, damage: str, invariant: str
) -> None:
    done, running, waiting = task(), task(), task(key="k")
    await broker.push([done])
    (held,) = await lease(broker)
    await broker.step(Step("w", ["q"], 0, [success(held)]))
    await broker.push([running])
    await lease(broker)
    await broker.push([waiting])
    assert await broker.inspector.check() == []
    with plain(path) as other:
        other.executescript(damage)
    found = await broker.inspector.check()
    assert invariant in {violation.invariant for violation in found}
    known = {done.task.id, running.task.id, waiting.task.id}
    assert known.issuperset(one for violation in found for one in violation.ids)


async def test_a_damaged_file_is_found(broker: SQLiteBroker, path: Path) -> None:
    await broker.push([task() for _ in range(100)])
    with plain(path) as other:
        other.execute("PRAGMA writable_schema = ON")
        root = "(SELECT rootpage FROM sqlite_master WHERE name = 'conveyor_ready')"
        other.execute(f"UPDATE sqlite_master SET rootpage = {root} WHERE name = 'conveyor_task_id'")
    found = await broker.inspector.check()
    assert "storage" in {violation.invariant for violation in found}


# -- steady gates: what must not become slower, whatever the machine


def test_every_statement_is_used_and_understood() -> None:
    """Also the rare ones: none refers to a column that is not there."""

    def explain(
        connection: sqlite3.Connection, statement: str, marks: tuple[None, ...]
    ) -> list[tuple[int, int, int, str]]:
        return connection.execute(f"EXPLAIN QUERY PLAN {statement}", marks).fetchall()

    async def prepared() -> None:
        broker = SQLiteBroker("sqlite://")
        await broker.open()
        for name, text in {**SQL, **views.SQL, **invariants.SQL}.items():
            statement = text.format(ids="?", queues="?", names="?", seqs="?")
            marks = (None,) * statement.count("?")
            plan = await broker._opened().writer.read(
                partial(explain, statement=statement, marks=marks)
            )
            if name in _HOT:
                walks = [row[3] for row in plan if row[3].startswith("SCAN")]
                assert walks == [], name
        await broker.close()

    asyncio.run(prepared())


_HOT = {
    "claim",
    "delete_ready_through",
    "first_due",
    "take_due",
    "delete_lease",
    "find_task",
    "find_worker",
    "untold_cancels",
    "whereabouts",
    "finals",
    "last_event",
    "due_prune",
    "expired_keys",
    "ready_new_tasks",
}
"""Statements that find what they want by an index, however full the tables are."""
