"""Taskiq on Redis Streams with acknowledgement."""

from __future__ import annotations

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

broker = RedisStreamBroker(url(), queue_name="bench").with_result_backend(
    RedisAsyncResultBackend(url(), result_ex_time=600)
)


@broker.task(task_name="noop")
async def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


@broker.task(task_name="nap")
async def nap(number: int) -> int:
    """50 ms."""
    return await work.nap_async(number)


TASKS = {"noop": noop, "nap": nap}


class TaskiqAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "taskiq", "redis", "taskiq-redis"
    guarantee = (
        "at least once: acknowledged when the result is saved; unacknowledged messages are claimed"
        " after 10 min idle, and only when new work arrives"
    )
    tuning = "stream broker, 100 async tasks a process, uvloop"

    async def open(self) -> None:
        """Declares the consumer group, too."""
        await broker.startup()

    async def close(self) -> None:
        """See `Adapter`."""
        await broker.shutdown()

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await TASKS[task].kiq(number)

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """See `Adapter`."""
        return [
            python(
                "-m",
                "taskiq",
                "worker",
                "benchmarks.peers.taskiq:broker",
                "-w",
                str(processes),
                "--max-async-tasks",
                str(slots or 100),
                "--log-level",
                "ERROR",
            )
        ]


adapter = TaskiqAdapter()
