"""PgQueuer on PostgreSQL with asyncpg. Run as a module, this file is its worker."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

BATCH = 1000


async def main() -> PgQueuer:
    """A queue with both tasks."""
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(url())))

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        work.noop(int(job.payload or b"0"))

    @queue.entrypoint("nap")
    async def nap(job: Job) -> None:
        await work.nap_async(int(job.payload or b"0"))

    return queue


class PgQueuerAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "pgqueuer", "postgres", "pgqueuer"
    guarantee = (
        "at least once: jobs without a heartbeat for 30 s are picked again, with no fence against"
        " the first run. No results"
    )
    tuning = f"batch size {BATCH} (crash: default 10), durable tables, one connection, uvloop"
    results = False
    bulk = True

    async def prepare(self) -> None:
        """See `Adapter`."""
        connection = await asyncpg.connect(url())
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    async def open(self) -> None:
        """See `Adapter`."""
        self._queries = Queries(AsyncpgDriver(await asyncpg.connect(url())))

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await self._queries.enqueue(task, str(number).encode())

    async def send_many(self, task: str, numbers: list[int]) -> object:
        """See `AsyncAdapter`."""
        payloads = [str(number).encode() for number in numbers]
        return await self._queries.enqueue([task] * len(numbers), payloads, [0] * len(numbers))

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """`pgq run` of 1.6.0 fails with the newest Typer, so a module run calls what it calls."""
        command = python("-m", "benchmarks.peers.pgqueuer", str(slots or 0))
        return [command for _ in range(processes)]


adapter = PgQueuerAdapter()


async def work_forever(slots: int) -> None:
    """A worker; its cap must be at least twice the batch of 10 that is the default."""
    queue = await main()
    if slots:
        await queue.run(max_concurrent_tasks=max(slots, 20))
    else:
        await queue.run(batch_size=BATCH)


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(work_forever(int(sys.argv[1])))
    else:
        uvloop.run(work_forever(int(sys.argv[1])))
