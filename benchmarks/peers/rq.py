"""RQ: the default worker, which forks a work horse for every job. Run as a module: its worker."""

from __future__ import annotations

from importlib import import_module

from redis import Redis
from rq import Queue, Worker

from benchmarks import work
from benchmarks.adapter import SyncAdapter, python, url

queue = Queue("bench", connection=Redis.from_url(url()))


def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


def nap(number: int) -> int:
    """50 ms."""
    return work.nap(number)


TASKS = {"noop": noop, "nap": nap}


class RqAdapter(SyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "rq", "redis", "rq"
    guarantee = (
        "at most once: a started job of a killed worker is marked failed (AbandonedJobError) by"
        " maintenance, after minutes"
    )
    tuning = "default Worker (a fork per job), task modules imported before the fork"
    bulk = True
    forks = True

    def send(self, task: str, number: int) -> object:
        """See `SyncAdapter`."""
        return queue.enqueue(TASKS[task], number)

    def send_many(self, task: str, numbers: list[int]) -> object:
        """See `SyncAdapter`."""
        return queue.enqueue_many([Queue.prepare_data(TASKS[task], [n]) for n in numbers])

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """A worker runs one job at a time: slots are workers."""
        command = python("-m", "benchmarks.peers.rq")
        return [command for _ in range(slots or processes)]


adapter = RqAdapter()

if __name__ == "__main__":
    # The documentation's performance note: a script that imports first, so that no fork has to.
    import_module("benchmarks.peers.rq")
    Worker([queue]).work(logging_level="ERROR")
