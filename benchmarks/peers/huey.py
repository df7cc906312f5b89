"""Huey on Redis and on SQLite."""

from __future__ import annotations

from urllib.parse import urlsplit

from huey import RedisHuey, SqliteHuey

from benchmarks import work
from benchmarks.adapter import SyncAdapter, python, url

ON_REDIS = url().startswith("redis")
huey = RedisHuey("bench", url=url()) if ON_REDIS else SqliteHuey(filename=urlsplit(url()).path)


@huey.task()
def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


@huey.task()
def nap(number: int) -> int:
    """50 ms."""
    return work.nap(number)


TASKS = {"noop": noop, "nap": nap}


class HueyAdapter(SyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name = "huey-redis" if ON_REDIS else "huey-sqlite"
    store = "redis" if ON_REDIS else "sqlite"
    distribution = "huey"
    guarantee = "at most once: a task leaves the queue before it runs"
    tuning = "worker processes; crash run: threads" + (
        "" if ON_REDIS else "; WAL, fsync off (default), polls every 10-50 ms instead of 0.1-10 s"
    )

    def send(self, task: str, number: int) -> object:
        """See `SyncAdapter`."""
        return TASKS[task](number)

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """Processes for throughput; threads when a host shall run several tasks at once."""
        kind = "thread" if slots else "process"
        polling = [] if ON_REDIS else ["-d", "0.01", "-m", "0.05"]
        return [
            python(
                "-m",
                "huey.bin.huey_consumer",
                "benchmarks.peers.huey.huey",
                "-q",
                "-n",
                "-k",
                kind,
                "-w",
                str(slots or processes),
                *polling,
            )
        ]


adapter = HueyAdapter()
