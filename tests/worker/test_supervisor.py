"""A worker as a whole: real processes that are killed, stopped and starved."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from conveyor.brokers.base import Broker
from conveyor.core.task import State
from tests.worker.harness import (
    child_of,
    enqueue,
    eventually,
    is_gone,
    lines,
    reached,
    running,
    soon,
    started,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


# -- D5: a child dies


async def test_tasks_of_a_killed_child_run_again_at_once(store: Broker, tmp_path: Path) -> None:
    task = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path) as worker:
        ((_, _, pid),) = await started(tmp_path)
        os.kill(int(pid), signal.SIGKILL)
        killed = time.monotonic()
        await started(tmp_path, 2)
        assert time.monotonic() - killed < 5
        (tmp_path / "go").touch()
        info = await reached(store, task, State.SUCCEEDED)
        assert "was killed by signal 9 (SIGKILL)" in worker.text
    first = info.executions[0]
    assert [e.number for e in info.executions] == [1, 2]
    assert first.outcome == "crashed"
    assert first.error is not None
    assert "killed by signal 9 (SIGKILL), peak RSS" in first.error.message
    assert first.code_version
    assert info.attempts == 1


async def test_the_dead_child_s_tasks_are_put_back_within_a_second(
    store: Broker, tmp_path: Path
) -> None:
    task = await enqueue(store, "wait_for_go", str(tmp_path), retry_base=60.0, retry_cap=60.0)
    with running(tmp_path):
        ((_, _, pid),) = await started(tmp_path)
        os.kill(int(pid), signal.SIGKILL)
        await reached(store, task, State.SCHEDULED, within=1.0)


async def test_leases_that_never_started_cost_nothing(store: Broker, tmp_path: Path) -> None:
    first = await enqueue(store, "wait_for_go", str(tmp_path))
    others = [await enqueue(store, "echo", n) for n in range(3)]
    with running(tmp_path, concurrency=1):
        ((_, _, pid),) = await started(tmp_path)
        os.kill(int(pid), signal.SIGKILL)
        await started(tmp_path, 2)
        (tmp_path / "go").touch()
        await reached(store, first, State.SUCCEEDED)
        for other in others:
            assert (await reached(store, other, State.SUCCEEDED)).attempts == 0


# -- D12: poison


async def test_poison_runs_alone_at_last_and_then_never_again(
    store: Broker, tmp_path: Path
) -> None:
    bystander = await enqueue(store, "wait_for_go", str(tmp_path / "by"))
    (tmp_path / "by").mkdir()
    task = await enqueue(store, "poison", str(tmp_path))
    with running(tmp_path):
        info = await reached(store, task, State.FAILED, within=40)
        pids = [pid for _, _, pid in lines(tmp_path / "started")]
        assert len(pids) == len(set(pids)) == 3
        (tmp_path / "by" / "go").touch()
        spared = await reached(store, bystander, State.SUCCEEDED)
    assert "the last one alone" in (info.reason or "")
    assert [e.outcome for e in info.executions] == ["crashed"] * 3
    for execution in info.executions:
        assert execution.error is not None
        assert "signal 11 (SIGSEGV), peak RSS" in execution.error.message
        assert any("about to die" in line for line in execution.logs)
    assert "other task" in str(info.executions[0].error)
    assert "other task" not in str(info.executions[-1].error)
    # It was beside the poison twice, and then no more.
    assert spared.attempts == 2


async def test_a_task_in_its_own_process_is_not_blamed_for_the_child(
    store: Broker, tmp_path: Path
) -> None:
    task = await enqueue(store, "sleep_in_process", str(tmp_path))
    with running(tmp_path) as worker:
        ((_, _, pid),) = await started(tmp_path)
        child = child_of(worker)
        assert child.pid != int(pid)
        child.kill()
        ((_, _, pid), (_, execution, other)) = await started(tmp_path, 2)
        assert (execution, other != pid) == ("2", True)
        await soon(lambda: is_gone(int(pid)))
        info = await store.inspector.get(task.id)
        assert info.executions[0].outcome == "lost"
        assert info.attempts == 0


# -- D6: the supervisor dies


async def test_a_dead_supervisor_s_tasks_are_rescued_by_another_keeper(
    store: Broker, tmp_path: Path
) -> None:
    lease = 5.0
    task = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path, lease=lease) as first:
        await started(tmp_path)
        child = child_of(first)
        with running(tmp_path, lease=lease) as second:
            eventually(lambda: "ready" in second.text)
            first.signal(signal.SIGKILL)
            died = time.monotonic()
            await soon(lambda: is_gone(child.pid), within=5)
            await started(tmp_path, 2, within=lease + 10)
            assert time.monotonic() - died < lease + 4
            (tmp_path / "go").touch()
            info = await reached(store, task, State.SUCCEEDED)
    assert info.executions[0].outcome == "lost"
    assert info.attempts == 0


# -- D7: stopping


async def test_sigterm_lets_running_tasks_end(store: Broker, tmp_path: Path) -> None:
    task = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path, processes=2) as worker:
        await started(tmp_path)
        worker.signal(signal.SIGTERM)
        eventually(lambda: "stopping; " in worker.text)
        (tmp_path / "go").touch()
        assert worker.end() == 0
    assert (await store.inspector.get(task.id)).state is State.SUCCEEDED
    assert await store.inspector.workers() == []


async def test_sigterm_gives_back_what_does_not_end(store: Broker, tmp_path: Path) -> None:
    task = await enqueue(store, "wait_forever", str(tmp_path))
    with running(tmp_path, shutdown_grace=0.3) as worker:
        await started(tmp_path)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    info = await store.inspector.get(task.id)
    assert (info.state, info.attempts) == (State.QUEUED, 0)
    assert info.executions[0].outcome == "interrupted"
    assert lines(tmp_path / "cancelled")


async def test_what_ignores_its_cancellation_is_given_back_too(
    store: Broker, tmp_path: Path
) -> None:
    task = await enqueue(store, "hold_the_gil", str(tmp_path), 600)
    with running(tmp_path, shutdown_grace=0.3) as worker:
        await started(tmp_path)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    info = await store.inspector.get(task.id)
    assert (info.state, info.attempts) == (State.QUEUED, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(
    store: Broker, tmp_path: Path, number: signal.Signals
) -> None:
    task = await enqueue(store, "wait_forever", str(tmp_path))
    with running(tmp_path, shutdown_grace=60.0) as worker:
        await started(tmp_path)
        worker.signal(number)
        eventually(lambda: "again: stop at once" in worker.text)
        worker.signal(number)
        asked = time.monotonic()
        assert worker.end() == 1
        assert time.monotonic() - asked < 5
    info = await store.inspector.get(task.id)
    assert (info.state, info.attempts) == (State.QUEUED, 0)


async def test_a_burst_ends_when_nothing_is_left(store: Broker, tmp_path: Path) -> None:
    tasks = [await enqueue(store, "echo", n) for n in range(50)]
    with running(tmp_path, burst=True, processes=2) as worker:
        assert worker.end() == 0
    for task in tasks:
        assert (await store.inspector.get(task.id)).state is State.SUCCEEDED


# -- keeping the lease


async def test_a_task_that_holds_the_gil_keeps_its_lease(store: Broker, tmp_path: Path) -> None:
    task = await enqueue(store, "hold_the_gil", str(tmp_path), 9)
    with running(tmp_path, lease=5.0, stalled_after=1.0) as worker:
        info = await reached(store, task, State.SUCCEEDED, within=30)
        assert worker.text.count("has stood still") == 1
        # Its name too, unless the GIL stopped the child amid a write and the store is locked.
        assert task.id in worker.text
    assert len(info.executions) == 1
    assert len(lines(tmp_path / "started")) == 1


async def test_a_worker_that_was_stopped_too_long_starts_anew(
    store: Broker, tmp_path: Path
) -> None:
    task = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path, lease=4.0) as sleeper, running(tmp_path, lease=4.0) as other:
        await started(tmp_path)
        eventually(lambda: "ready" in sleeper.text and "ready" in other.text)
        pid = int(lines(tmp_path / "started")[0][2])
        mine = sleeper if pid in {c.pid for c in sleeper.children()} else other
        stopped = [psutil.Process(mine.process.pid), *mine.children()]
        for process in stopped:
            process.suspend()
        await started(tmp_path, 2, within=20)
        for process in stopped:
            process.resume()
        eventually(lambda: "ran out and its tasks were given away" in mine.text)
        eventually(lambda: mine.text.count("ready") == 2)
        (tmp_path / "go").touch()
        info = await reached(store, task, State.SUCCEEDED)
    assert [e.number for e in info.executions] == [1, 2]


async def test_the_registry_knows_its_workers(store: Broker, tmp_path: Path) -> None:
    task = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path, queues=("default", "other"), concurrency=3) as worker:
        await started(tmp_path)
        (info,) = await soon(store.inspector.workers)
        assert (info.pid, info.queues, info.concurrency) == (
            child_of(worker).pid,
            ("default", "other"),
            3,
        )
        assert "tests.worker.apps.echo" in info.names
        assert info.code_version
        await soon(lambda: _published(store))
        (tmp_path / "go").touch()
        await reached(store, task, State.SUCCEEDED)


async def _published(store: Broker) -> bool:
    (info,) = await store.inspector.workers()
    return info.running == 1 and info.rss > 10_000_000 and info.last_claim_at is not None
