"""A worker as a whole: real processes that are killed, stopped and starved."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from conveyor.brokers.base import Broker
from conveyor.brokers.url import connect
from conveyor.core.task import NewTask, State, Task, TaskInfo
from tests.worker.harness import Worker, eventually, lease_of, lines, running, soon

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture
async def broker(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setenv("CONVEYOR_URL", sqlite_url)
    broker = connect(sqlite_url)
    await broker.open()
    yield broker
    await broker.close()


async def enqueue(broker: Broker, name: str, *args: Any, **fields: Any) -> Task:
    retry = {"max_attempts": 10, "retry_base": 0.01, "retry_cap": 0.01}
    task = lease_of(name, args, **{**retry, **fields}).task
    await broker.push([NewTask(task)])
    return task


async def reached(broker: Broker, task: Task, state: State, within: float = 15.0) -> TaskInfo:
    async def there() -> TaskInfo | None:
        found = await broker.inspector.get(task.id)
        return found if found.state is state else None

    found: TaskInfo = await soon(there, within)
    return found


async def started(folder: Path, times: int = 1, within: float = 15.0) -> list[list[str]]:
    """Wait until tasks have started so many times in all; returns (id, execution, pid) of each."""
    found: list[list[str]] = await soon(
        lambda: (seen := lines(folder / "started")) and len(seen) >= times and seen, within
    )
    return found


def child_of(worker: Worker) -> psutil.Process:
    (child,) = worker.children()
    return child


# -- D5: a child dies


async def test_tasks_of_a_killed_child_run_again_at_once(broker: Broker, tmp_path: Path) -> None:
    task = await enqueue(broker, "wait_for_go", str(tmp_path))
    with running(tmp_path) as worker:
        ((_, _, pid),) = await started(tmp_path)
        os.kill(int(pid), signal.SIGKILL)
        killed = time.monotonic()
        await started(tmp_path, 2)
        assert time.monotonic() - killed < 5
        (tmp_path / "go").touch()
        info = await reached(broker, task, State.SUCCEEDED)
        assert "was killed by signal 9 (SIGKILL)" in worker.text
    first = info.executions[0]
    assert [e.number for e in info.executions] == [1, 2]
    assert first.outcome == "crashed"
    assert first.error is not None
    assert "killed by signal 9 (SIGKILL), peak RSS" in first.error.message
    assert first.code_version
    assert info.attempts == 1


async def test_the_dead_child_s_tasks_are_put_back_within_a_second(
    broker: Broker, tmp_path: Path
) -> None:
    task = await enqueue(broker, "wait_for_go", str(tmp_path), retry_base=60.0, retry_cap=60.0)
    with running(tmp_path):
        ((_, _, pid),) = await started(tmp_path)
        os.kill(int(pid), signal.SIGKILL)
        await reached(broker, task, State.SCHEDULED, within=1.0)


async def test_leases_that_never_started_cost_nothing(broker: Broker, tmp_path: Path) -> None:
    first = await enqueue(broker, "wait_for_go", str(tmp_path))
    others = [await enqueue(broker, "echo", n) for n in range(3)]
    with running(tmp_path, concurrency=1):
        ((_, _, pid),) = await started(tmp_path)
        os.kill(int(pid), signal.SIGKILL)
        await started(tmp_path, 2)
        (tmp_path / "go").touch()
        await reached(broker, first, State.SUCCEEDED)
        for other in others:
            assert (await reached(broker, other, State.SUCCEEDED)).attempts == 0


# -- D12: poison


async def test_poison_runs_alone_at_last_and_then_never_again(
    broker: Broker, tmp_path: Path
) -> None:
    bystander = await enqueue(broker, "wait_for_go", str(tmp_path / "by"))
    (tmp_path / "by").mkdir()
    task = await enqueue(broker, "poison", str(tmp_path))
    with running(tmp_path):
        info = await reached(broker, task, State.FAILED, within=40)
        pids = [pid for _, _, pid in lines(tmp_path / "started")]
        assert len(pids) == len(set(pids)) == 3
        (tmp_path / "by" / "go").touch()
        spared = await reached(broker, bystander, State.SUCCEEDED)
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
    broker: Broker, tmp_path: Path
) -> None:
    task = await enqueue(broker, "sleep_in_process", str(tmp_path))
    with running(tmp_path) as worker:
        ((_, _, pid),) = await started(tmp_path)
        child = child_of(worker)
        assert child.pid != int(pid)
        child.kill()
        ((_, _, pid), (_, execution, other)) = await started(tmp_path, 2)
        assert (execution, other != pid) == ("2", True)
        await soon(lambda: not psutil.pid_exists(int(pid)))
        info = await broker.inspector.get(task.id)
        assert info.executions[0].outcome == "lost"
        assert info.attempts == 0


# -- D6: the supervisor dies


async def test_a_dead_supervisor_s_tasks_are_rescued_by_another_keeper(
    broker: Broker, tmp_path: Path
) -> None:
    lease = 5.0
    task = await enqueue(broker, "wait_for_go", str(tmp_path))
    with running(tmp_path, lease=lease) as first:
        await started(tmp_path)
        child = child_of(first)
        with running(tmp_path, lease=lease) as second:
            eventually(lambda: "ready" in second.text)
            first.signal(signal.SIGKILL)
            died = time.monotonic()
            await soon(lambda: not child.is_running(), within=5)
            await started(tmp_path, 2, within=lease + 10)
            assert time.monotonic() - died < lease + 4
            (tmp_path / "go").touch()
            info = await reached(broker, task, State.SUCCEEDED)
    assert info.executions[0].outcome == "lost"
    assert info.attempts == 0


# -- D7: stopping


async def test_sigterm_lets_running_tasks_end(broker: Broker, tmp_path: Path) -> None:
    task = await enqueue(broker, "wait_for_go", str(tmp_path))
    with running(tmp_path, processes=2) as worker:
        await started(tmp_path)
        worker.signal(signal.SIGTERM)
        eventually(lambda: "stopping; " in worker.text)
        (tmp_path / "go").touch()
        assert worker.end() == 0
    assert (await broker.inspector.get(task.id)).state is State.SUCCEEDED
    assert await broker.inspector.workers() == []


async def test_sigterm_gives_back_what_does_not_end(broker: Broker, tmp_path: Path) -> None:
    task = await enqueue(broker, "wait_forever", str(tmp_path))
    with running(tmp_path, shutdown_grace=0.3) as worker:
        await started(tmp_path)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    info = await broker.inspector.get(task.id)
    assert (info.state, info.attempts) == (State.QUEUED, 0)
    assert info.executions[0].outcome == "interrupted"
    assert lines(tmp_path / "cancelled")


async def test_what_ignores_its_cancellation_is_given_back_too(
    broker: Broker, tmp_path: Path
) -> None:
    task = await enqueue(broker, "hold_the_gil", str(tmp_path), 600)
    with running(tmp_path, shutdown_grace=0.3) as worker:
        await started(tmp_path)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    info = await broker.inspector.get(task.id)
    assert (info.state, info.attempts) == (State.QUEUED, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(
    broker: Broker, tmp_path: Path, number: signal.Signals
) -> None:
    task = await enqueue(broker, "wait_forever", str(tmp_path))
    with running(tmp_path, shutdown_grace=60.0) as worker:
        await started(tmp_path)
        worker.signal(number)
        eventually(lambda: "again: stop at once" in worker.text)
        worker.signal(number)
        asked = time.monotonic()
        assert worker.end() == 1
        assert time.monotonic() - asked < 5
    info = await broker.inspector.get(task.id)
    assert (info.state, info.attempts) == (State.QUEUED, 0)


async def test_a_burst_ends_when_nothing_is_left(broker: Broker, tmp_path: Path) -> None:
    tasks = [await enqueue(broker, "echo", n) for n in range(50)]
    with running(tmp_path, burst=True, processes=2) as worker:
        assert worker.end() == 0
    for task in tasks:
        assert (await broker.inspector.get(task.id)).state is State.SUCCEEDED


# -- keeping the lease


async def test_a_task_that_holds_the_gil_keeps_its_lease(broker: Broker, tmp_path: Path) -> None:
    task = await enqueue(broker, "hold_the_gil", str(tmp_path), 9)
    with running(tmp_path, lease=5.0, stalled_after=1.0) as worker:
        info = await reached(broker, task, State.SUCCEEDED, within=30)
        assert worker.text.count("has stood still") == 1
        assert f"tests.worker.apps.hold_the_gil ({task.id})" in worker.text
    assert len(info.executions) == 1
    assert len(lines(tmp_path / "started")) == 1


async def test_a_worker_that_was_stopped_too_long_starts_anew(
    broker: Broker, tmp_path: Path
) -> None:
    task = await enqueue(broker, "wait_for_go", str(tmp_path))
    with running(tmp_path, lease=4.0) as sleeper, running(tmp_path, lease=4.0) as other:
        await started(tmp_path)
        eventually(lambda: "ready" in sleeper.text and "ready" in other.text)
        family = [*sleeper.children(), *other.children()]
        pid = int(lines(tmp_path / "started")[0][2])
        mine = sleeper if pid in {c.pid for c in sleeper.children()} else other
        stopped = [psutil.Process(mine.process.pid), *mine.children()]
        for process in stopped:
            process.suspend()
        await started(tmp_path, 2, within=20)
        for process in stopped:
            process.resume()
        eventually(lambda: "ran out and its tasks were given away" in mine.text)
        eventually(lambda: len(mine.children()) == 1 and mine.children()[0] not in family)
        (tmp_path / "go").touch()
        info = await reached(broker, task, State.SUCCEEDED)
    assert [e.number for e in info.executions] == [1, 2]


async def test_the_registry_knows_its_workers(broker: Broker, tmp_path: Path) -> None:
    task = await enqueue(broker, "wait_for_go", str(tmp_path))
    with running(tmp_path, queues=("default", "other"), concurrency=3) as worker:
        await started(tmp_path)
        (info,) = await soon(broker.inspector.workers)
        assert (info.pid, info.queues, info.concurrency) == (
            child_of(worker).pid,
            ("default", "other"),
            3,
        )
        assert "tests.worker.apps.echo" in info.names
        assert info.code_version
        await soon(lambda: _published(broker))
        (tmp_path / "go").touch()
        await reached(broker, task, State.SUCCEEDED)


async def _published(broker: Broker) -> bool:
    (info,) = await broker.inspector.workers()
    return info.running == 1 and info.rss > 10_000_000 and info.last_claim_at is not None


# -- cannot start


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": "tests.worker.nowhere:app"}, "nowhere"),
        ({"target": "tests.worker.apps:application"}, "application"),
        ({"target": "tests.worker.apps"}, "MODULE:APP"),
        ({"url": "gopher://:secret@host/"}, "gopher"),
        ({"url": "sqlite:///:memory:"}, "one process"),
        ({"url": "redis://:secret@127.0.0.1:1/0"}, "127.0.0.1"),
    ],
)
def test_a_worker_that_cannot_start_says_why(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with running(tmp_path, processes=2, **settings) as worker:
        assert worker.end() == 2
    (line,) = worker.text.strip().splitlines()
    assert words in line
    assert "secret" not in line
    assert "Traceback" not in line


async def test_a_child_that_dies_while_starting_ends_the_worker(
    broker: Broker, tmp_path: Path
) -> None:
    (tmp_path / "fatal.py").write_text("import os; os._exit(7)")
    with running(tmp_path, target="fatal:app") as worker:
        assert worker.end() == 1
    assert "while it was starting, child" in worker.text
    assert "ended with exit code 7" in worker.text


# -- watching


async def test_reload_replaces_the_child_when_a_file_changes(
    broker: Broker, tmp_path: Path
) -> None:
    module = tmp_path / "shop.py"
    module.write_text("from conveyor import Conveyor\napp = Conveyor()\n")
    with running(tmp_path, target="shop:app", reload=True) as worker:
        eventually(lambda: "ready: 0 task" in worker.text)
        module.write_text("from conveyor import Conveyor\napp = Conveyor()\n)\n")
        eventually(lambda: "importing 'shop' failed: SyntaxError" in worker.text, within=15)
        module.write_text(
            "from conveyor import Conveyor\napp = Conveyor()\n@app.task\ndef buy(): pass\n"
        )
        eventually(lambda: "ready: 1 task" in worker.text, within=15)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0


async def test_a_child_worn_by_stuck_threads_is_replaced_when_idle(
    broker: Broker, tmp_path: Path
) -> None:
    task = await enqueue(broker, "stuck_in_a_thread", str(tmp_path), timeout=0.2, max_attempts=1)
    with running(tmp_path, kill_grace=0.2, stalled_after=1.0) as worker:
        await started(tmp_path)
        before = child_of(worker)
        assert (await reached(broker, task, State.FAILED)).executions[0].outcome == "timed_out"
        eventually(lambda: "idle but for 1 stuck thread" in worker.text)
        eventually(lambda: worker.text.count("ready") == 2)
        assert not before.is_running()
