"""streaQ on Redis Streams."""

from __future__ import annotations

import os

from streaq import Worker

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

CONCURRENCY = 16
worker = Worker(
    redis_url=url(),
    queue_name="bench",
    concurrency=int(os.environ.get("BENCH_SLOTS") or CONCURRENCY),
    anyio_kwargs={"use_uvloop": True},
)


@worker.task(silent=True)
async def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


@worker.task(silent=True)
async def nap(number: int) -> int:
    """50 ms."""
    return await work.nap_async(number)


TASKS = {"noop": noop, "nap": nap}


class StreaqAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "streaq", "redis", "streaq"
    guarantee = "at least once: idle messages are claimed after 60 s without renewal"
    tuning = f"concurrency {CONCURRENCY} (its default, and the fastest), uvloop, task logs off"
    bulk = True

    async def open(self) -> None:
        """See `Adapter`."""
        await worker.__aenter__()

    async def close(self) -> None:
        """See `Adapter`."""
        await worker.__aexit__(None, None, None)

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await TASKS[task].enqueue(number)

    async def send_many(self, task: str, numbers: list[int]) -> object:
        """See `AsyncAdapter`."""
        return await worker.enqueue_many([TASKS[task].enqueue(number) for number in numbers])

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """The concurrency travels by BENCH_SLOTS."""
        return [
            python("-m", "streaq", "run", "benchmarks.peers.streaq:worker", "-w", str(processes))
        ]


adapter = StreaqAdapter()
