"""What the supervisor sees of a living child, and what it does about it."""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from conveyor.brokers.base import Broker, Holding, Renewal, WorkerInfo
from conveyor.brokers.documents import Document
from conveyor.core.errors import BrokerUnavailable
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock
from conveyor.worker import memory, reload
from conveyor.worker.board import LocalBoard
from conveyor.worker.offspring import Offspring
from conveyor.worker.renewal import Renewals
from conveyor.worker.settings import WorkerSettings
from conveyor.worker.watchdog import Watchdog
from tests.worker.harness import lease_of, soon

SETTINGS = WorkerSettings(concurrency=2, renew_every=0.01)


class Child:
    """A child as far as it is watched."""

    def __init__(self) -> None:
        self.board = LocalBoard()
        self.board.lease_until = 0.0
        self.token = new_id()
        self.pid = 42
        self.went_at: float | None = 0.0
        self.stopping = self.gone = self.disowned = False
        self.cancelled: list[str] = []

    def stop(self) -> None:
        self.stopping = True

    def disown(self) -> None:
        self.disowned = self.stopping = True

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids

    def info(self) -> WorkerInfo:
        return WorkerInfo(id=self.token, host="here", pid=self.pid, started_at=0.0)


class Answers:
    """A broker that renews as told, and knows what is held."""

    def __init__(self) -> None:
        self.renewal = Renewal(alive=True)
        self.away = False
        self.calls = 0
        self.holdings: list[Holding] = []
        self.documents = self

    async def get(self, kind: str, ids: Sequence[str]) -> dict[str, Document]:
        return {}

    async def renew(
        self, workers: Sequence[str], seconds: float, info: WorkerInfo | None = None
    ) -> dict[str, Renewal]:
        self.calls += 1
        if self.away:
            raise BrokerUnavailable("gone")
        assert info is not None
        assert [info.id] == list(workers)
        return {workers[0]: self.renewal}

    async def held(self, worker: str | None = None, limit: int = 1_000) -> list[Holding]:
        if self.away:
            raise BrokerUnavailable("gone")
        return self.holdings


@pytest.fixture
def child() -> Child:
    return Child()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def reachable() -> list[float | None]:
    """Since when the broker answers, for the watchdog to read."""
    return [0.0]


@pytest.fixture
def dog(
    child: Child, answers: Answers, clock: ManualClock, reachable: list[float | None]
) -> Watchdog:
    return Watchdog(
        cast("Offspring", child),
        cast("Broker", answers),
        SETTINGS,
        clock,
        lambda: reachable[0],
    )


async def live(dog: Watchdog, child: Child, clock: ManualClock, seconds: int) -> None:
    """Let time pass for a child whose loop turns."""
    for _ in range(seconds):
        clock.advance(1)
        child.board.beat(clock.monotonic())
        await dog.look()


# -- deaf, worn, stalled


async def test_a_child_that_makes_no_step_is_restarted(
    dog: Watchdog, child: Child, clock: ManualClock
) -> None:
    await live(dog, child, clock, 30)
    assert not child.stopping
    await live(dog, child, clock, 1)
    assert child.stopping


async def test_steps_prove_that_it_hears(dog: Watchdog, child: Child, clock: ManualClock) -> None:
    for _ in range(5):
        await live(dog, child, clock, 20)
        child.board.stepped(clock.monotonic())
    assert not child.stopping


async def test_a_full_child_need_not_step(dog: Watchdog, child: Child, clock: ManualClock) -> None:
    child.board.publish(running=2, stuck=0, stale=0)
    await live(dog, child, clock, 100)
    assert not child.stopping


async def test_nobody_hears_a_broker_that_is_away(
    dog: Watchdog, child: Child, clock: ManualClock, reachable: list[float | None]
) -> None:
    reachable[0] = None
    await live(dog, child, clock, 100)
    reachable[0] = clock.monotonic()
    await live(dog, child, clock, 30)
    assert not child.stopping
    await live(dog, child, clock, 1)
    assert child.stopping


async def test_stuck_threads_wear_an_idle_child_out(
    dog: Watchdog, child: Child, clock: ManualClock
) -> None:
    child.board.publish(running=1, stuck=1, stale=0)
    await live(dog, child, clock, 20)
    assert not child.stopping
    child.board.publish(running=0, stuck=1, stale=0)
    await live(dog, child, clock, 5)
    assert not child.stopping
    await live(dog, child, clock, 1)
    assert child.stopping


async def test_a_loop_that_stands_still_is_named_once_and_left_alone(
    dog: Watchdog,
    child: Child,
    clock: ManualClock,
    answers: Answers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lease = lease_of("hold_the_gil")
    answers.holdings = [Holding(lease)]
    child.board.started(lease.task.id, 1)
    await live(dog, child, clock, 1)
    for _ in range(60):
        clock.advance(1)
        await dog.look()
    assert not child.stopping
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"tests.worker.apps.hold_the_gil ({lease.task.id})" in record.getMessage()
    # It turns again, and then stands still again.
    child.board.stepped(clock.monotonic())
    await live(dog, child, clock, 1)
    answers.away = True
    clock.advance(6)
    await dog.look()
    assert len(caplog.records) == 2
    assert caplog.records[1].getMessage().count(lease.task.id) == 1


# -- renewing


@pytest.fixture
def renewals(answers: Answers, clock: ManualClock) -> Renewals:
    return Renewals(cast("Broker", answers), SETTINGS, clock, lambda: 0.5)


async def keep(renewals: Renewals, child: Child) -> asyncio.Task[None]:
    return asyncio.create_task(renewals.keep(cast("Offspring", child)))


async def test_a_lease_counts_from_when_it_was_asked_for(
    renewals: Renewals, child: Child, clock: ManualClock, answers: Answers
) -> None:
    clock.advance(100)
    answers.renewal = Renewal(alive=True, cancels=["a", "b"])
    await renewals.first(cast("Offspring", child))
    assert child.board.lease_until == 100 + SETTINGS.lease
    assert child.cancelled == ["a", "b"]


async def test_it_goes_on_through_an_outage(
    renewals: Renewals,
    child: Child,
    clock: ManualClock,
    answers: Answers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers.away = True
    keeping = await keep(renewals, child)
    await soon(lambda: answers.calls >= 2)
    await soon(lambda: renewals.reachable_since is None)
    assert child.board.lease_until == 0.0
    clock.advance(7)
    answers.away = False
    await soon(lambda: child.board.lease_until)
    await soon(lambda: renewals.reachable_since == 7)
    assert [r.levelno for r in caplog.records if "cannot be reached" in r.message] == [
        logging.WARNING
    ]
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_a_lost_lease_ends_the_child(
    renewals: Renewals, child: Child, answers: Answers
) -> None:
    answers.renewal = Renewal(alive=False)
    async with asyncio.timeout(5):
        await (await keep(renewals, child))
    assert child.disowned
    assert child.board.lease_until == 0.0


# -- files and memory


def test_reload_looks_at_python_files_that_are_ours(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "pkg/c.py", ".hidden/d.py", "venv/e.py", "node_modules/f.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    seen = {Path(path).relative_to(tmp_path).as_posix() for path in reload.look(tmp_path)}
    assert seen == {"a.py", "pkg/c.py"}


def test_reload_tells_what_changed_came_and_went(tmp_path: Path) -> None:
    same, old, gone, new = (tmp_path / f"{name}.py" for name in ("same", "old", "gone", "new"))
    for file in (same, old, gone):
        file.touch()
    before = reload.look(tmp_path)
    os.utime(old, ns=(1, 1))
    gone.unlink()
    new.touch()
    assert reload.compare(before, reload.look(tmp_path)) == sorted(map(str, (old, gone, new)))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_memory_counts_the_whole_family() -> None:
    assert memory.family_rss(os.getpid()) > 10_000_000
    assert memory.family_rss(2**22 + 1) == 0
