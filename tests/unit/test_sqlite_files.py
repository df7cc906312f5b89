"""The file of the SQLite store: its URL, opening it, sharing it with other processes."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor.brokers.sqlite.broker import SQLiteBroker
from conveyor.brokers.sqlite.options import Location, locate
from conveyor.brokers.sqlite.room import FULL, STRIDE, Room
from conveyor.core.errors import BrokerError, BrokerUnavailable, InvalidURL, SchemaMismatch
from conveyor.core.task import State
from conveyor.system import new_id
from tests.unit.sqlite_kit import on_writer, plain, task

pytestmark = pytest.mark.sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def broker(path: Path) -> AsyncIterator[SQLiteBroker]:
    made = SQLiteBroker(f"sqlite:///{path}?busy_timeout=0.2")
    await made.open()
    yield made
    await made.close()


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
    assert await asyncio.to_thread(os.listdir, tmp_path) == []


async def test_another_kind_of_file_is_left_alone(path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, b"something else entirely\n" * 100)
    await _expect_at_open(f"sqlite:///{path}", BrokerUnavailable, "is not an SQLite database")
    assert await asyncio.to_thread(path.read_bytes) == b"something else entirely\n" * 100


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


def acknowledged_before_the_kill(url: str) -> list[str]:
    """Start a producer, kill it in the middle, return the ids it said were stored."""
    with subprocess.Popen(
        [sys.executable, "-c", _PRODUCER, url], stdout=subprocess.PIPE, text=True
    ) as producer:
        assert producer.stdout is not None
        lines = [producer.stdout.readline() for _ in range(20)]
        producer.kill()
        lines += producer.stdout.read().splitlines(keepends=True)
    return [one for line in lines if line.endswith("\n") for one in line.split()]


async def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    """D1: `push` returned, so the task is there, whatever became of its process."""
    url = f"sqlite:///{path}"
    acknowledged = await asyncio.to_thread(acknowledged_before_the_kill, url)
    assert len(acknowledged) >= 400
    broker = SQLiteBroker(url)
    await broker.open()
    assert await broker.finals(acknowledged) == {}
    assert (await broker.inspector.counts())[State.QUEUED] % 20 == 0
    assert await broker.inspector.check() == []
    await broker.close()


# -- room in the log


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


async def test_the_log_has_its_length_before_it_is_needed(broker: SQLiteBroker, path: Path) -> None:
    for _ in range(FULL // STRIDE + 2):
        await broker.push([task()])
    assert log_of(path).stat().st_size == FULL


async def test_only_a_commit_that_writes_makes_room(broker: SQLiteBroker, path: Path) -> None:
    await broker.push([task()])
    size = log_of(path).stat().st_size
    assert STRIDE < size < 2 * STRIDE
    await broker.cancel([new_id()])
    assert log_of(path).stat().st_size == size


async def test_without_fdatasync_no_room_is_needed(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}?synchronous=normal")
    await broker.open()
    await broker.push([task()])
    assert log_of(path).stat().st_size < STRIDE
    await broker.close()


async def test_room_is_no_obstacle_to_recovery(
    broker: SQLiteBroker, path: Path, tmp_path: Path
) -> None:
    """After a power cut all that is left are the file and its log."""
    for _ in range(3):
        await broker.push([task()])
    left = tmp_path / "left.db"
    for source, target in ((path, left), (log_of(path), log_of(left))):
        target.write_bytes(source.read_bytes())
    survivor = SQLiteBroker(f"sqlite:///{left}")
    await survivor.open()
    assert (await survivor.inspector.counts())[State.QUEUED] == 3
    assert await survivor.inspector.check() == []
    await survivor.close()


async def test_room_is_made_in_no_other_log(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks may change the working directory of their process."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = log_of(elsewhere / path.name)
    other.touch()
    monkeypatch.chdir(path.parent)
    broker = SQLiteBroker(f"sqlite:///{path.name}")
    await broker.open()
    monkeypatch.chdir(elsewhere)
    await broker.push([task()])
    assert other.stat().st_size == 0
    assert log_of(path).stat().st_size > STRIDE
    await broker.close()


def test_a_log_that_cannot_be_written_to_is_left_alone(path: Path) -> None:
    with plain(path) as connection:  # in another journal mode there is none
        room = Room(connection, Location(str(path)))
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
        room.make()
        room.make()
