"""The process executor: it runs, it reports, and above all it can be stopped."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest

from conveyor.core.outcome import (
    Cancelled,
    Crashed,
    Failed,
    Outcome,
    Rejected,
    Snoozed,
    Succeeded,
    TimedOut,
)
from conveyor.core.task import Counters, Lease, Progress
from conveyor.worker.processes import ProcessPool, ProcessUnusable
from tests.worker.harness import TARGET, eventually, is_gone, lease_of, lines, soon

NONE = b"\xc0"


def ignore(progress: Progress | None, log_lines: tuple[str, ...]) -> None:
    """Not every test wants the news."""


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(TARGET, 4, grace=0.5)
    yield pool
    await pool.close()


async def run(
    pool: ProcessPool, lease: Lease, timeout: float | None = None, fresh: bool = False
) -> Outcome:
    return await pool.run(lease, timeout=timeout, fresh=fresh, on_note=ignore)


async def pid_from(pool: ProcessPool, fresh: bool = False) -> int:
    outcome = await run(pool, lease_of("pid_of_process"), fresh=fresh)
    assert isinstance(outcome, Succeeded)
    return int.from_bytes(outcome.result[1:], "big")


async def test_processes_are_reused_and_are_not_ours(pool: ProcessPool) -> None:
    first, second = await pid_from(pool), await pid_from(pool)
    assert first == second != os.getpid()


async def test_a_fresh_process_runs_nothing_else(pool: ProcessPool) -> None:
    shared = await pid_from(pool)
    own = await pid_from(pool, fresh=True)
    assert own != shared
    await soon(lambda: not psutil.pid_exists(own))
    assert await pid_from(pool) == shared


async def test_async_functions_see_the_resources_of_their_process(pool: ProcessPool) -> None:
    assert await run(pool, lease_of("state_in_process")) == Succeeded(b"\xc3")


async def test_a_durable_step_is_done_once_for_all_attempts(
    broker_url: str, tmp_path: Path
) -> None:
    """On every store: the process talks to it by itself."""
    pool = ProcessPool(TARGET, 1, url=broker_url, grace=0.5)
    lease = lease_of("steps_in_process", (str(tmp_path),))
    try:
        assert isinstance(await run(pool, lease), Failed)
        again = msgspec.structs.replace(lease, execution=2, counters=Counters(attempts=1))
        assert await run(pool, again) == Succeeded(b"\x0a")
    finally:
        await pool.close()
    assert [line[1] for line in lines(tmp_path / "step")] == ["1"]


async def test_news_come_with_the_end(pool: ProcessPool) -> None:
    news: list[tuple[Progress | None, tuple[str, ...]]] = []
    outcome = await pool.run(
        lease_of("talk"),
        timeout=None,
        on_note=lambda progress, log_lines: news.append((progress, log_lines)),
    )
    assert outcome == Succeeded(b"\xa4done")
    progress, log_lines = news[-1]
    assert progress == Progress(1, 2, "half")
    assert "a line from the process" in log_lines[0]


async def test_news_come_while_it_runs(pool: ProcessPool, tmp_path: Path) -> None:
    heard = asyncio.Event()
    running = asyncio.create_task(
        pool.run(
            lease_of("talk_then_wait", (str(tmp_path),)),
            timeout=None,
            on_note=lambda *_: heard.set(),
        )
    )
    async with asyncio.timeout(10):
        await heard.wait()
    assert not running.done()
    (tmp_path / "go").touch()
    assert await running == Succeeded(NONE)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("raise", Failed), ("reject", Rejected), ("snooze", Snoozed), ("sys.exit", Failed)],
)
async def test_ends_of_user_code(pool: ProcessPool, how: str, expected: type[Outcome]) -> None:
    before = await pid_from(pool)
    outcome = await run(pool, lease_of("end", (how,)))
    assert isinstance(outcome, expected)
    assert await pid_from(pool) == before
    if how == "raise":
        assert isinstance(outcome, Failed)
        assert outcome.error.type == "ValueError"
        assert 'raise ValueError("no good")' in outcome.error.traceback


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("os._exit", "ended with exit code 9"),
        ("kill", "was killed by signal 9 (SIGKILL)"),
        ("segv", "was killed by signal 11 (SIGSEGV)"),
    ],
)
@pytest.mark.parametrize("fresh", [False, True])
async def test_a_death_is_a_crash_that_says_how(
    pool: ProcessPool, how: str, words: str, fresh: bool
) -> None:
    outcome = await run(pool, lease_of("end", (how,)), fresh=fresh)
    assert isinstance(outcome, Crashed)
    assert outcome.alone is fresh
    assert outcome.error.type == "conveyor.WorkerCrashed"
    assert words in outcome.error.message
    assert "peak RSS" in outcome.error.message
    assert "MiB" in outcome.error.message
    assert await pid_from(pool)


@pytest.mark.parametrize("name", ["sleep_in_process", "sleep_async_in_process"])
async def test_a_timeout_stops_it_and_lets_it_clean_up(
    pool: ProcessPool, name: str, tmp_path: Path
) -> None:
    lease = lease_of(name, (str(tmp_path),), timeout=0.3)
    outcome = await run(pool, lease, timeout=0.3)
    assert isinstance(outcome, TimedOut)
    assert "0.3 s" in outcome.error.message
    assert f"in {name}\n" in outcome.error.traceback
    assert "conveyor/worker" not in outcome.error.traceback
    assert (tmp_path / "cleaned").exists()
    assert not psutil.pid_exists(int(lines(tmp_path / "started")[0][2]))


async def test_who_ignores_sigterm_is_killed(pool: ProcessPool, tmp_path: Path) -> None:
    outcome = await run(pool, lease_of("ignore_sigterm", (str(tmp_path),)), timeout=0.3)
    assert isinstance(outcome, TimedOut)
    assert not psutil.pid_exists(int(lines(tmp_path / "started")[0][2]))


async def test_cancel_stops_it(pool: ProcessPool, tmp_path: Path) -> None:
    lease = lease_of("sleep_in_process", (str(tmp_path),))
    running = asyncio.create_task(run(pool, lease))
    await soon((tmp_path / "started").exists)
    pool.cancel(lease.task.id)
    assert await running == Cancelled()
    assert (tmp_path / "cleaned").exists()


async def test_cancel_before_the_process_is_up(pool: ProcessPool, tmp_path: Path) -> None:
    lease = lease_of("sleep_in_process", (str(tmp_path),))
    running = asyncio.create_task(run(pool, lease))
    await asyncio.sleep(0)
    pool.cancel(lease.task.id)
    assert await running == Cancelled()
    assert not (tmp_path / "started").exists()
    pool.cancel("unknown")


async def test_what_a_task_started_is_killed_with_it(pool: ProcessPool, tmp_path: Path) -> None:
    lease = lease_of("start_a_program", (str(tmp_path),))
    running = asyncio.create_task(run(pool, lease))
    await soon((tmp_path / "started").exists)
    program = int((tmp_path / "program").read_text())
    pool.cancel(lease.task.id)
    assert await running == Cancelled()
    await soon(lambda: is_gone(program))


async def test_closing_ends_everything(tmp_path: Path) -> None:
    pool = ProcessPool(TARGET, 2, grace=0.5)
    idle = await pid_from(pool)
    running = asyncio.create_task(run(pool, lease_of("ignore_sigterm", (str(tmp_path),))))
    await soon((tmp_path / "started").exists)
    await pool.close()
    assert isinstance(await running, Crashed)
    assert not psutil.pid_exists(idle)
    with pytest.raises(ProcessUnusable):
        await run(pool, lease_of("pid_of_process"))


async def test_abandoning_a_run_kills_its_process(pool: ProcessPool, tmp_path: Path) -> None:
    running = asyncio.create_task(run(pool, lease_of("ignore_sigterm", (str(tmp_path),))))
    await soon((tmp_path / "started").exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await soon(lambda: not psutil.pid_exists(int(lines(tmp_path / "started")[0][2])))


async def test_an_idle_process_is_ended(tmp_path: Path) -> None:
    pool = ProcessPool(TARGET, 2, idle=0.0)
    pid = await pid_from(pool)
    await soon(lambda: not psutil.pid_exists(pid))
    assert await pid_from(pool) != pid
    await pool.close()


async def test_a_process_that_was_told_to_end_gets_no_task(tmp_path: Path) -> None:
    pool = ProcessPool(TARGET, 2, idle=0.0)
    pids = []
    for _ in range(4):
        pids.append(await pid_from(pool))
        # Its time is over, but it has not ended yet.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(set(pids)) == 4
    await pool.close()


async def test_an_app_that_cannot_be_imported_is_said_so() -> None:
    pool = ProcessPool("tests.worker.nowhere:app", 1)
    with pytest.raises(ProcessUnusable, match="nowhere"):
        await run(pool, lease_of("pid_of_process"))
    await pool.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own watch is Linux's")
def test_processes_die_with_their_parent(tmp_path: Path) -> None:
    """Even while user code holds the GIL: nobody is left who could be told."""
    code = (
        "import asyncio, sys; from tests.worker.harness import *;"
        "from conveyor.worker.processes import ProcessPool\n"
        "async def main():\n"
        "    pool = ProcessPool(TARGET, 1)\n"
        "    lease = lease_of('hold_the_gil', (sys.argv[1], 600))\n"
        "    await pool.run(lease, timeout=None, on_note=lambda *_: None)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        eventually(lambda: lines(tmp_path / "started"))
        pid = int(lines(tmp_path / "started")[0][2])
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    eventually(lambda: is_gone(pid))
