"""Oban for Python on PostgreSQL (needs Python 3.12)."""

from __future__ import annotations

from oban import Job, Oban, Record, worker
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

LIMIT = 200


# Classes, not functions: in 0.7.0 `enqueue` of a function made by `@job` nests its arguments twice.
@worker(queue="bench")
class Noop:
    """Nothing."""

    async def process(self, job: Job) -> Record:
        """See `oban.worker`."""
        return Record(work.noop(job.args["number"]))


@worker(queue="bench")
class Nap:
    """50 ms."""

    async def process(self, job: Job) -> Record:
        """See `oban.worker`."""
        return Record(await work.nap_async(job.args["number"]))


TASKS = {"noop": Noop, "nap": Nap}


class ObanAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "oban", "postgres", "oban"
    guarantee = (
        "at least once: jobs executing for more than 5 min are rescued, the living ones, too"
        " (accurate rescue, bulk inserts and bulk acks are in the paid edition)"
    )
    tuning = f"queue limit {LIMIT}, pool of 10, uvloop, orjson, recorded results"
    bulk = True

    async def prepare(self) -> None:
        """See `Adapter`."""
        async with AsyncConnectionPool(url(), min_size=1, open=False) as pool:
            await install(pool)

    async def open(self) -> None:
        """See `Adapter`."""
        self._pool = AsyncConnectionPool(url(), min_size=2, max_size=10, open=False)
        await self._pool.open()
        self._oban = Oban(pool=self._pool)

    async def close(self) -> None:
        """See `Adapter`."""
        await self._pool.close()

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await TASKS[task].enqueue({"number": number})

    async def send_many(self, task: str, numbers: list[int]) -> object:
        """See `AsyncAdapter`."""
        return await self._oban.enqueue_many(
            TASKS[task].new({"number": number}) for number in numbers
        )

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """One command per process."""
        command = python(
            "-m",
            "oban",
            "start",
            "--dsn",
            url(),
            "--queues",
            f"bench:{slots or LIMIT}",
            "--log-level",
            "ERROR",
            "--cron-modules",
            "benchmarks.peers.oban",
        )
        return [command for _ in range(processes)]


adapter = ObanAdapter()
