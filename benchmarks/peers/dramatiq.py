"""Dramatiq on Redis with the results middleware."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import work
from benchmarks.adapter import SyncAdapter, python, url

broker = RedisBroker(url=url())
broker.add_middleware(Results(backend=RedisBackend(url=url()), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


@dramatiq.actor
def nap(number: int) -> int:
    """50 ms."""
    return work.nap(number)


TASKS = {"noop": noop, "nap": nap}


class DramatiqAdapter(SyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "dramatiq", "redis", "dramatiq"
    guarantee = (
        "at least once (late ack); a dead worker's messages return after 60 s, during maintenance"
        " that other commands trigger by chance"
    )
    tuning = "8 threads a process"

    def send(self, task: str, number: int) -> object:
        """See `SyncAdapter`."""
        return TASKS[task].send(number)

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """See `Adapter`."""
        return [
            python(
                "-m",
                "dramatiq",
                "benchmarks.peers.dramatiq",
                "--skip-logging",
                "-p",
                str(processes),
                "-t",
                str(slots or 8),
            )
        ]


adapter = DramatiqAdapter()
