"""Celery on Redis: prefork pool, result backend on."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import work
from benchmarks.adapter import SyncAdapter, python, url

app = Celery("bench", broker=url(), backend=url())
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="bench",
    worker_hijack_root_logger=False,
)
if os.environ.get("BENCH_PROFILE") == "throughput":
    # The optimizing guide: many short tasks want a large multiplier. Crash runs keep the default.
    app.conf.worker_prefetch_multiplier = 128


@app.task
def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


@app.task
def nap(number: int) -> int:
    """50 ms."""
    return work.nap(number)


TASKS = {"noop": noop, "nap": nap}


class CeleryAdapter(SyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "celery", "redis", "celery"
    guarantee = (
        "at most once for started tasks (early ack); prefetched ones come back after the"
        " visibility timeout of 1 h"
    )
    tuning = "prefork, prefetch multiplier 128 (crash: 4), no gossip, mingle or heartbeat"

    def send(self, task: str, number: int) -> object:
        """See `SyncAdapter`."""
        return TASKS[task].delay(number)

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """Prefork children are both the processes and the slots."""
        lean = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        arguments = ("-A", "benchmarks.peers.celery:app", "worker", "-P", "prefork", "-l", "ERROR")
        children = str(slots or processes)
        return [
            python(
                "-m",
                "celery",
                *arguments,
                "-Q",
                "bench",
                "-n",
                f"w{os.urandom(4).hex()}@h",
                "-c",
                children,
                *lean,
            )
        ]


adapter = CeleryAdapter()
