"""Procrastinate on PostgreSQL."""

from __future__ import annotations

import procrastinate

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

CONCURRENCY = 30
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=url(), min_size=2, max_size=20)
)


@app.task(name="noop")
async def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


@app.task(name="nap")
async def nap(number: int) -> int:
    """50 ms."""
    return await work.nap_async(number)


TASKS = {"noop": noop, "nap": nap}


class ProcrastinateAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "procrastinate", "postgres", "procrastinate"
    guarantee = (
        "at most once by default: stalled jobs stay in 'doing' until a periodic task of your own"
        " retries them. No results"
    )
    tuning = f"concurrency {CONCURRENCY}, connection pool of 20"
    results = False
    bulk = True

    async def prepare(self) -> None:
        """See `Adapter`."""
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        """See `Adapter`."""
        await app.open_async()

    async def close(self) -> None:
        """See `Adapter`."""
        await app.close_async()

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await TASKS[task].defer_async(number=number)

    async def send_many(self, task: str, numbers: list[int]) -> object:
        """See `AsyncAdapter`."""
        return await TASKS[task].batch_defer_async(*({"number": n} for n in numbers))

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """One command per process."""
        command = python(
            "-m",
            "procrastinate",
            "--app",
            "benchmarks.peers.procrastinate.app",
            "--log-level",
            "error",
            "worker",
            "-c",
            str(slots or CONCURRENCY),
        )
        return [command for _ in range(processes)]


adapter = ProcrastinateAdapter()
