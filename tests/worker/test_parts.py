"""The small parts of a worker: prefetch, deadlines, threads, captured logs."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from conveyor.logbuffer import HEAD_LINES, TAIL_LINES, LogBuffer
from conveyor.worker.deadlines import Deadlines
from conveyor.worker.prefetch import MOST_PER_STEP, Prefetch
from conveyor.worker.threads import ThreadPool


class TestPrefetch:
    def test_nothing_is_leased_ahead_before_anything_is_known(self) -> None:
        assert Prefetch(32).want(running=0, waiting=0) == 32
        assert Prefetch(32).want(running=30, waiting=2) == 0

    def test_quick_work_is_leased_ahead(self) -> None:
        prefetch = Prefetch(32)
        prefetch.ended(0.000_05)
        assert prefetch.want(running=32, waiting=0) == MOST_PER_STEP

    def test_what_is_leased_ahead_is_worth_a_quarter_second(self) -> None:
        prefetch = Prefetch(10)
        prefetch.ended(0.05)
        assert prefetch.want(running=10, waiting=0) == 50

    def test_slow_work_is_leased_for_free_slots_only(self) -> None:
        prefetch = Prefetch(10)
        prefetch.ended(0.5)
        assert prefetch.want(running=10, waiting=0) == 0
        assert prefetch.want(running=7, waiting=0) == 3

    def test_one_slow_task_counts_at_once(self) -> None:
        prefetch = Prefetch(10)
        for _ in range(100):
            prefetch.ended(0.000_1)
        prefetch.ended(2.0)
        assert prefetch.want(running=10, waiting=0) == 0


class TestDeadlines:
    async def test_they_fire_in_the_order_of_their_times(self) -> None:
        fired: list[str] = []
        done = asyncio.Event()
        deadlines = Deadlines()
        deadlines.after(0.03, done.set)
        deadlines.after(0.02, lambda: fired.append("second"))
        deadlines.after(0.01, lambda: fired.append("first"))
        never = deadlines.after(0.015, lambda: fired.append("cancelled"))
        never.cancel()
        await asyncio.wait_for(done.wait(), 5)
        assert fired == ["first", "second"]
        deadlines.close()


class TestThreads:
    async def test_jobs_run_at_once_up_to_the_size(self) -> None:
        pool = ThreadPool(4)
        together = threading.Barrier(4, timeout=5)
        done: asyncio.Queue[int] = asyncio.Queue()
        for _ in range(4):
            pool.submit(together.wait, done.put_nowait)
        assert sorted([await done.get() for _ in range(4)]) == [0, 1, 2, 3]
        pool.close()
        pool.join(5)

    async def test_an_abandoned_thread_is_replaced(self) -> None:
        pool = ThreadPool(1)
        release, done = threading.Event(), asyncio.Queue[str]()

        def stuck() -> str:
            release.wait(10)
            return "late"

        pool.submit(stuck, done.put_nowait)
        pool.submit(lambda: "next", done.put_nowait)
        pool.abandon()
        assert await asyncio.wait_for(done.get(), 5) == "next"
        release.set()
        assert await asyncio.wait_for(done.get(), 5) == "late"
        pool.recovered()
        pool.close()
        pool.join(5)


class TestLogs:
    def test_head_and_tail_are_kept(self) -> None:
        total = HEAD_LINES + TAIL_LINES + 50
        kept = LogBuffer(str(i) for i in range(total)).lines()
        assert kept[0] == "0"
        assert kept[-1] == str(total - 1)
        assert kept[HEAD_LINES] == "… 50 lines left out …"
        assert len(kept) == HEAD_LINES + TAIL_LINES + 1

    def test_long_lines_are_cut(self) -> None:
        assert len(LogBuffer(["x" * 5_000]).lines()[0]) == 1_000


def test_logging_outside_a_task_is_not_captured(caplog: pytest.LogCaptureFixture) -> None:
    from conveyor.worker import logs

    capture = logs.install()
    try:
        logging.getLogger("elsewhere").warning("hello")
    finally:
        logs.remove(capture)
    assert "hello" in caplog.text
