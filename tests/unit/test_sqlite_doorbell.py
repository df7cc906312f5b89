"""The bells of the SQLite store: sockets between processes, marks of the idle, fair turns."""

import asyncio
import os
import socket
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from conveyor.brokers.base import Step
from conveyor.brokers.sqlite import posts
from conveyor.brokers.sqlite.broker import SQLiteBroker
from conveyor.brokers.sqlite.posts import Posts
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.brokers.sqlite.turns import Turns
from tests.unit.sqlite_kit import lease, task

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sockets are. Their names must be short: pytest's own folders are too deep."""
    assert tmp_path.is_dir()
    with tempfile.TemporaryDirectory(prefix="cv") as folder:
        monkeypatch.setattr(posts, "root", lambda: Path(folder))
        yield Path(folder)


@pytest.fixture
def path(place: Path, tmp_path: Path) -> Path:
    assert place.is_dir()
    return tmp_path / "queue.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SQLiteBroker]:
    """A broker as another process has it."""
    broker = SQLiteBroker(f"sqlite:///{path}")
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def idle(
    broker: SQLiteBroker, worker: str, queues: tuple[str, ...] = ("q",)
) -> AsyncIterator[asyncio.Event]:
    """A worker that has found nothing and sleeps."""
    rung = asyncio.Event()
    async with broker.listen(worker, queues, rung.set):
        await broker.renew([worker], 60)
        while (await broker.step(Step(worker, queues, 1))).leases or rung.is_set():
            rung.clear()
        yield rung


async def heard(*bells: asyncio.Event) -> int:
    """Wait until any bell has rung and everything sent by then has arrived; count them."""
    async with asyncio.timeout(5):
        await asyncio.wait(
            [asyncio.ensure_future(bell.wait()) for bell in bells],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for _ in range(20):
            await asyncio.sleep(0)
    waits = [one for one in asyncio.all_tasks() if "Event.wait" in repr(one)]
    for one in waits:
        one.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return sum(bell.is_set() for bell in bells)


def folder_of(path: Path) -> Path:
    found = Posts.of(str(path))
    assert found is not None
    found._sender.close()
    return Path(found._folder)


async def test_one_push_wakes_one_idle_worker(path: Path) -> None:
    async with (
        opened(path) as one,
        opened(path) as two,
        opened(path) as producer,
        idle(one, "w1") as first,
        idle(two, "w2") as second,
    ):
        await producer.push([task()])
        assert await heard(first, second) == 1


async def test_a_worker_that_leaves_tasks_behind_wakes_the_next(path: Path) -> None:
    async with (
        opened(path) as one,
        opened(path) as two,
        opened(path) as producer,
        idle(one, "w1") as first,
        idle(two, "w2") as second,
    ):
        await producer.push([task(), task()])
        assert await heard(first, second) == 1
        woken, other = (("w1", second), ("w2", first))[second.is_set()]
        broker = {"w1": one, "w2": two}[woken]
        assert len((await broker.step(Step(woken, ["q"], 1))).leases) == 1
        assert await heard(other) == 1


async def test_only_workers_of_the_queue_are_woken(path: Path) -> None:
    async with (
        opened(path) as one,
        opened(path) as two,
        opened(path) as producer,
        idle(one, "w1", ("other",)) as wrong,
        idle(two, "w2", ("a", "q")) as right,
    ):
        await producer.push([task()])
        assert await heard(wrong, right) == 1
        assert right.is_set()


async def test_a_worker_with_very_many_queues_is_woken_for_any(path: Path) -> None:
    async with (
        opened(path) as one,
        opened(path) as producer,
        idle(one, "w", tuple(f"queue-number-{n}" for n in range(200))) as bell,
    ):
        await producer.push([task(queue="queue-number-150")])
        assert await heard(bell) == 1


async def test_a_busy_worker_is_left_alone(path: Path) -> None:
    async with opened(path) as one, opened(path) as producer:
        rung = asyncio.Event()
        async with one.listen("w", ["q"], rung.set):
            await producer.push([task(), task()])
            assert len(await lease(one, want=1)) == 1
            rung.clear()
            await producer.push([task()])
            await producer.inspector.counts()
            assert list(folder_of(path).glob("*.idle")) == []
            assert not rung.is_set()


async def test_the_bell_of_a_dead_process_is_taken_down(path: Path) -> None:
    """It left mark and socket behind; the ring goes to a worker that is there."""
    async with opened(path) as one, opened(path) as producer, idle(one, "w") as bell:
        folder = folder_of(path)
        dead = [folder / f"{n:016x}.sock" for n in range(5)]
        for left in dead:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
                gone.bind(str(left))
            left.with_suffix(".idle").symlink_to("q")
        for _ in range(6):
            await producer.push([task()])
        assert await heard(bell) == 1
        left_over = {entry.name for entry in await asyncio.to_thread(os.scandir, folder)}
        assert not left_over & {mark.with_suffix(".idle").name for mark in dead}
        assert not left_over & {left.name for left in dead}


async def test_the_bell_rings_before_the_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker wakes up while the disk writes; its look waits for the end of that."""
    async with opened(path) as one, opened(path) as producer, idle(one, "w") as bell:
        commits, inside = producer._opened().writer._commits, list[bool]()
        assert commits._bell is not None
        rung = commits._bell.rung

        def noting(tx: Transaction) -> None:
            inside.append(commits._connection.in_transaction)
            rung(tx)

        monkeypatch.setattr(commits._bell, "rung", noting)
        await producer.push([task()])
        assert inside == [True]
        assert await heard(bell) == 1
        assert len((await one.step(Step("w", ["q"], 1))).leases) == 1


async def test_a_worker_rung_early_waits_for_the_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as one, opened(path) as producer, idle(one, "w") as bell:
        commits, may_commit = producer._opened().writer._commits, threading.Event()
        assert commits._bell is not None
        rung = commits._bell.rung

        def slow(tx: Transaction) -> None:
            rung(tx)
            may_commit.wait(10)

        monkeypatch.setattr(commits._bell, "rung", slow)
        push = asyncio.ensure_future(producer.push([task()]))
        assert await heard(bell) == 1
        step = asyncio.ensure_future(one.step(Step("w", ["q"], 1)))
        done, _ = await asyncio.wait([step], timeout=0.05)
        assert not done
        may_commit.set()
        await push
        assert len((await step).leases) == 1


async def test_a_loop_without_time_lets_the_thread_ring(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as one, opened(path) as producer, idle(one, "w") as bell:
        asked: list[object] = []
        never = SimpleNamespace(call_soon_threadsafe=asked.append)
        monkeypatch.setattr(producer._opened().bell, "_loop", never)
        await producer.push([task()])
        assert len(asked) == 1
        assert await heard(bell) == 1


def test_marks_are_kept_in_memory_where_there_is_any(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Path("/dev/shm")
    assert posts.root() == (shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir()))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert posts.root() == Path(tempfile.gettempdir())


async def test_a_mark_that_was_taken_for_nothing_is_left_again(path: Path) -> None:
    """Whoever took it died before it could ring."""
    async with opened(path) as one, opened(path) as producer, idle(one, "w") as bell:
        (mark,) = folder_of(path).glob("*.idle")
        mark.unlink()
        assert not (await one.step(Step("w", ["q"], 1))).leases
        await producer.push([task()])
        assert await heard(bell) == 1


async def test_the_folder_is_private_and_goes_with_the_last(path: Path) -> None:
    async with opened(path) as one, opened(path) as two, idle(one, "w1"), idle(two, "w2"):
        folder = folder_of(path)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert len(list(folder.glob("*.sock"))) == 2
    assert not folder.exists()


def test_a_folder_that_others_can_enter_is_not_used(path: Path, place: Path) -> None:
    (place / f"conveyor-{os.getuid()}").mkdir(mode=0o755)
    assert Posts.of(str(path)) is None


def test_a_folder_too_deep_for_sockets_is_not_used(
    path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = place / ("x" * 80)
    deep.mkdir()
    monkeypatch.setattr(posts, "root", lambda: deep)
    assert Posts.of(str(path)) is None


async def test_without_sockets_the_file_is_watched(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    monkeypatch.setattr(Posts, "of", lambda _: None)
    async with opened(path) as one, opened(path) as producer, idle(one, "w") as bell:
        await producer.push([task()])
        assert await heard(bell) == 1


async def test_a_bell_survives_that_its_folder_vanishes(path: Path) -> None:
    async with opened(path) as one, opened(path) as producer:
        folder_of(path).rmdir()
        async with idle(one, "w") as bell:
            await producer.push([task()])
            assert await heard(bell) == 1


async def test_a_worker_whose_bell_cannot_hang_still_works(path: Path) -> None:
    """Then its own poll has to do."""
    async with opened(path) as one:
        folder = folder_of(path)
        folder.rmdir()
        folder.write_text("in the way")
        async with one.listen("w", ["q"], lambda: None):
            await one.push([task()])
            assert len(await lease(one)) == 1


def test_who_waits_is_given_way(tmp_path: Path) -> None:
    one, two = Turns(str(tmp_path / "a.db")), Turns(str(tmp_path / "a.db"))
    assert not one.somebody_waits()
    with two.waiting():
        assert one.somebody_waits()
    assert not one.somebody_waits()
    one.close()
    two.close()
    with one.waiting():
        assert not one.somebody_waits()


async def test_a_stream_of_writes_lets_others_in(path: Path) -> None:
    """Without turns, whoever waits finds the lock taken again each time."""
    async with opened(path) as stream, opened(path) as other:
        await other.renew(["w"], 60)
        pushing = [
            asyncio.ensure_future(stream.push([task() for _ in range(1_000)])) for _ in range(40)
        ]
        steps = 0
        while not all(push.done() for push in pushing):
            await other.step(Step("w", ["q"], 10))
            steps += 1
        await asyncio.gather(*pushing)
    assert steps >= 2
