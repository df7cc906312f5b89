"""What only the SQLite store promises: its file, its commits, its errors. The verbs themselves are
proven by the conformance suite.
"""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conveyor.brokers.base import RETENTION_SECONDS, Pushed, Settlement, Step
from conveyor.brokers.sqlite import invariants, views
from conveyor.brokers.sqlite.broker import SQLiteBroker
from conveyor.brokers.sqlite.options import Location, locate
from conveyor.brokers.sqlite.statements import SQL
from conveyor.core import codec
from conveyor.core.errors import (
    BrokerError,
    BrokerFull,
    BrokerUnavailable,
    InvalidOption,
    InvalidURL,
    SchemaMismatch,
)
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Succeeded
from conveyor.core.task import Lease, NewTask, State, Task
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock

pytestmark = pytest.mark.sqlite


def task(**fields: Any) -> NewTask:
    fields = {"name": "work", "queue": "q", "priority": 5, "payload": b"\x92\x90\x80", **fields}
    return NewTask(Task(**{"id": new_id(), "enqueued_at": 1.0, **fields}))


def success(lease: Lease, result: Any = None) -> Settlement:
    outcome = Succeeded(codec.encode(result, what="result"))
    return Settlement(lease, decide(lease, outcome, dice=0.5))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def broker(path: Path, clock: ManualClock) -> AsyncIterator[SQLiteBroker]:
    made = SQLiteBroker(f"sqlite:///{path}?busy_timeout=0.2", clock=clock)
    await made.open()
    yield made
    await made.close()


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody else."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        yield connection
    finally:
        connection.close()


async def lease(broker: SQLiteBroker, want: int = 10, worker: str = "w") -> list[Lease]:
    await broker.renew([worker], 60)
    return list((await broker.step(Step(worker, ["q"], want))).leases)


async def on_writer(broker: SQLiteBroker, *statements: str) -> Any:
    """Run statements on the writer's own connection; return the first column of the last row."""

    def run(connection: sqlite3.Connection) -> Any:
        row = [connection.execute(statement).fetchone() for statement in statements][-1]
        return row[0] if row else None

    return await broker._opened().writer.read(run)


# -- the URL


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("sqlite:///queue.db", Location("queue.db")),
        ("sqlite:////var/lib/queue.db", Location("/var/lib/queue.db")),
        ("sqlite:///C:/data/queue.db", Location("C:/data/queue.db")),
        ("sqlite:///a%20b%3F.db", Location("a b?.db")),
        ("sqlite://", Location(None)),
        ("sqlite:///", Location(None)),
        ("sqlite:///:memory:", Location(None)),
        ("sqlite:///q.db?synchronous=normal", Location("q.db", "normal")),
        ("sqlite:///q.db?synchronous=FULL&busy_timeout=1.5", Location("q.db", "full", 1.5)),
    ],
)
def test_a_url_says_which_file_and_how_carefully(url: str, where: Location) -> None:
    assert locate(url) == where


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://queue.db", "three slashes"),
        ("sqlite:///folder/", "name of a file"),
        ("sqlite:///q.db#1", "%23"),
        ("sqlite:///q.db?wal=off", "unknown option 'wal'; SQLite knows synchronous, busy_timeout"),
        ("sqlite:///q.db?synchronous=off", "full or normal"),
        ("sqlite:///q.db?busy_timeout=soon", "seconds from 0 to 60"),
        ("sqlite:///q.db?busy_timeout=-1", "seconds from 0 to 60"),
        ("sqlite:///q.db?busy_timeout=nan", "seconds from 0 to 60"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url: str, words: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        SQLiteBroker(url)
    assert words in str(caught.value)


# -- opening


async def test_the_file_is_made_with_its_schema_and_a_log(broker: SQLiteBroker, path: Path) -> None:
    assert await on_writer(broker, "PRAGMA journal_mode") == "wal"
    assert await on_writer(broker, "PRAGMA synchronous") == 2
    with plain(path) as other:
        assert other.execute("SELECT version FROM conveyor_meta").fetchall() == [(1,)]


async def test_less_care_must_be_asked_for(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}?synchronous=normal")
    await broker.open()
    assert await on_writer(broker, "PRAGMA synchronous") == 1
    await broker.close()


async def test_migrating_says_what_it_did(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}")
    assert await broker.migrate() == ["applied 0001_schema (schema version 1)"]
    assert await broker.migrate() == []
    await broker.close()


async def test_the_queue_may_live_in_the_file_of_an_application(path: Path) -> None:
    with plain(path) as other:
        other.execute("CREATE TABLE task (id)")
        other.execute("PRAGMA user_version = 42")
    broker = SQLiteBroker(f"sqlite:///{path}")
    await broker.open()
    await broker.push([task()])
    await broker.close()
    with plain(path) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (42,)
        assert other.execute("SELECT count(*) FROM task").fetchone() == (0,)


async def _expect_at_open(url: str, kind: type[BrokerError], words: str) -> None:
    broker = SQLiteBroker(url)
    with pytest.raises(kind) as caught:
        await broker.open()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(BrokerUnavailable):
        await broker.push([task()])
    await broker.close()


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    await _expect_at_open(f"sqlite:///{tmp_path}", BrokerUnavailable, "is a folder")


async def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    await _expect_at_open(
        f"sqlite:///{tmp_path}/no/queue.db", BrokerUnavailable, "does not exist: make it first"
    )
    assert list(tmp_path.iterdir()) == []


async def test_another_kind_of_file_is_left_alone(path: Path) -> None:
    path.write_bytes(b"something else entirely\n" * 100)
    await _expect_at_open(f"sqlite:///{path}", BrokerUnavailable, "is not an SQLite database")
    assert path.read_bytes() == b"something else entirely\n" * 100


async def test_a_newer_schema_is_refused(broker: SQLiteBroker, path: Path) -> None:
    with plain(path) as other:
        other.execute("UPDATE conveyor_meta SET version = 99")
    await _expect_at_open(f"sqlite:///{path}", SchemaMismatch, "upgrade Conveyor")


async def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    await _expect_at_open(f"sqlite:///{path}", BrokerError, "needs 3.35")


async def test_a_store_that_cannot_be_written_says_so(broker: SQLiteBroker) -> None:
    await on_writer(broker, "PRAGMA query_only = ON")
    with pytest.raises(BrokerUnavailable, match="cannot be written: check the rights"):
        await broker.push([task()])


def test_many_may_make_the_file_at_the_same_time(path: Path) -> None:
    barrier, errors, lines = threading.Barrier(6), list[BaseException](), list[str]()

    async def make() -> None:
        broker = SQLiteBroker(f"sqlite:///{path}?busy_timeout=20")
        barrier.wait(20)
        lines.extend(await broker.migrate())
        await broker.push([task()])
        await broker.close()

    def run() -> None:
        try:
            asyncio.run(make())
        except BaseException as exc:  # noqa: BLE001 - the test fails with it
            errors.append(exc)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, len(lines)) == ([], 1)
    with plain(path) as other:
        assert other.execute("SELECT count(*) FROM conveyor_task").fetchone() == (6,)


async def test_memory_belongs_to_one_broker() -> None:
    one, two = SQLiteBroker("sqlite://"), SQLiteBroker("sqlite://")
    await one.open()
    await two.open()
    await one.push([task()])
    assert (await one.inspector.counts())[State.QUEUED] == 1
    assert (await two.inspector.counts())[State.QUEUED] == 0
    await one.close()
    await two.close()


async def test_a_fork_is_noticed(broker: SQLiteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: 1)
        with pytest.raises(BrokerError, match="cannot be used after a fork"):
            await broker.push([task()])
    assert len(await broker.push([task()])) == 1


# -- other processes


async def test_a_lock_that_is_held_too_long(broker: SQLiteBroker, path: Path) -> None:
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BrokerUnavailable, match=r"locked by another process for more than 0.2"):
            await broker.push([task()])
        # Readers wait for nobody.
        assert (await broker.inspector.counts())[State.QUEUED] == 0
        assert await broker.finals([]) == {}
        other.execute("ROLLBACK")
    assert (await broker.push([task()]))[0].created


async def test_a_lock_that_is_let_go_in_time(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}?busy_timeout=20")
    await broker.open()
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        pushing = asyncio.ensure_future(broker.push([task()]))
        await broker.inspector.counts()
        assert not pushing.done()
        other.execute("COMMIT")
        assert (await pushing)[0].created
    await broker.close()


_PRODUCER = """
import asyncio, sys
from conveyor.brokers.sqlite.broker import SQLiteBroker
from conveyor.core.task import NewTask, Task
from conveyor.system import new_id
async def main():
    broker = SQLiteBroker(sys.argv[1])
    await broker.open()
    while True:
        batch = [NewTask(Task(new_id(), "work", "q", 5, b"", 1.0)) for _ in range(20)]
        await broker.push(batch)
        print(*(new.task.id for new in batch), flush=True)
asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    """D1: `push` returned, so the task is there, whatever became of its process."""
    url = f"sqlite:///{path}"
    with subprocess.Popen(
        [sys.executable, "-c", _PRODUCER, url], stdout=subprocess.PIPE, text=True
    ) as producer:
        assert producer.stdout is not None
        lines = [await asyncio.to_thread(producer.stdout.readline) for _ in range(20)]
        producer.kill()
        lines += producer.stdout.read().splitlines(keepends=True)
    acknowledged = [one for line in lines if line.endswith("\n") for one in line.split()]
    broker = SQLiteBroker(url)
    await broker.open()
    assert await broker.finals(acknowledged) == {}
    assert (await broker.inspector.counts())[State.QUEUED] % 20 == 0
    assert await broker.inspector.check() == []
    await broker.close()


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
        await broker.inspector.counts()
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
        await broker.inspector.counts()
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
        other.execute(
            f"UPDATE sqlite_master SET rootpage = {root} WHERE name = 'conveyor_task_id'"  # noqa: S608
        )
    found = await broker.inspector.check()
    assert "storage" in {violation.invariant for violation in found}


# -- steady gates: what must not become slower, whatever the machine


def test_every_statement_is_used_and_understood() -> None:
    """Also the rare ones: none refers to a column that is not there."""

    async def prepared() -> None:
        broker = SQLiteBroker("sqlite://")
        await broker.open()
        for name, text in {**SQL, **views.SQL, **invariants.SQL}.items():
            statement = text.format(ids="?", queues="?", names="?")
            marks = (None,) * statement.count("?")
            plan = await broker._opened().writer.read(
                lambda connection, statement=statement, marks=marks: connection.execute(
                    f"EXPLAIN QUERY PLAN {statement}", marks
                ).fetchall()
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
