"""SAQ on Redis."""

from __future__ import annotations

import os
from typing import Any

from saq import Queue

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

CONCURRENCY = 100
queue = Queue.from_url(url(), name="bench")


async def noop(_: Any, *, number: int) -> int:
    """Nothing."""
    return work.noop(number)


async def nap(_: Any, *, number: int) -> int:
    """50 ms."""
    return await work.nap_async(number)


settings = {
    "queue": queue,
    "functions": [noop, nap],
    "concurrency": int(os.environ.get("BENCH_SLOTS") or CONCURRENCY),
}


class SaqAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "saq", "redis", "saq"
    guarantee = (
        "at most once by default (retries=1): a sweep each 60 s aborts started jobs whose worker"
        " is gone"
    )
    tuning = f"concurrency {CONCURRENCY}, hiredis"

    async def open(self) -> None:
        """See `Adapter`."""
        await queue.connect()

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await queue.enqueue(task, number=number)

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """The concurrency travels by BENCH_SLOTS."""
        return [
            python(
                "-m", "saq", "benchmarks.peers.saq.settings", "--quiet", "--workers", str(processes)
            )
        ]


adapter = SaqAdapter()
