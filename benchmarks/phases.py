"""What is measured: enqueueing, draining, start latency, memory, and a crash."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.marks import ENVIRONMENT, Marks
from benchmarks.peers import Peer
from benchmarks.processes import (
    Client,
    PeerError,
    Workers,
    cpu_seconds,
    memory_bytes,
    tail,
    wait_for,
)
from benchmarks.servers import Store

Row = dict[str, Any]
BOOT_SECONDS = 30.0
SETTLE_SECONDS = 0.3
SLOTS = 10  # what each of the two hosts of the crash run works on at the same time
WARMUP = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything; seconds are upper limits that keep slow peers from stalling a run."""

    tasks: int = 20_000
    repetitions: int = 3
    enqueue_seconds: float = 1.0
    preload_seconds: float = 2.5
    drain_seconds: float = 4.0
    latency_seconds: float = 4.0
    crash_tasks: int = 1000
    crash_seconds: float = 60.0
    crash_parallel: int = 6
    largest: int = 100_000


QUICK = Plan(
    tasks=2000,
    repetitions=1,
    enqueue_seconds=0.3,
    preload_seconds=0.7,
    drain_seconds=1.0,
    latency_seconds=1.0,
    crash_tasks=200,
    crash_seconds=6.0,
    crash_parallel=8,
    largest=6_000,
)


@dataclass
class Bench:
    """One peer on its database of one store."""

    peer: Peer
    store: Store
    index: int
    folder: Path
    python: str
    plan: Plan
    about: Row = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    _serial: Iterator[int] = field(default_factory=count)

    @property
    def log(self) -> Path:
        """Where the peer's own output goes."""
        return self.folder / f"{self.peer.name}.log"

    def environment(self, marks: Marks | None = None, **extra: str) -> dict[str, str]:
        """What a process of this peer finds in its environment."""
        found = {"BENCH_URL": self.store.url(self.index), **extra}
        if marks is not None:
            found[ENVIRONMENT] = str(marks.path)
        if self.about.get("forks"):
            found["BENCH_FORKS"] = "1"
        return found

    @contextmanager
    def session(self, size: int, profile: str) -> Iterator[tuple[Client, Marks]]:
        """An empty store with the peer's schema, a producer, and fresh marks."""
        self.store.reset(self.index)
        path = marks_folder() / f"bench-{os.getpid()}-{self.peer.name}-{next(self._serial)}.marks"
        marks = Marks.create(path, size)
        extra = self.environment(BENCH_PROFILE=profile)
        try:
            with Client(self.peer.module, self.python, extra, self.log) as client:
                self.about = client.ask(op="describe")
                client.ask(op="prepare")
                yield client, marks
        finally:
            path.unlink(missing_ok=True)

    def workers(
        self, client: Client, marks: Marks, processes: int, profile: str, slots: int | None = None
    ) -> Workers:
        """Start workers that leave their marks."""
        reply = client.ask(op="commands", processes=processes, slots=slots)
        extra = {"BENCH_PROFILE": profile} | ({"BENCH_SLOTS": str(slots)} if slots else {})
        return Workers(reply["commands"], self.environment(marks, **extra), self.log)


def marks_folder() -> Path:
    """Memory where there is a file system in memory."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


def await_tasks(bench: Bench, marks: Marks, tasks: int, *groups: Workers) -> None:
    """Return when so many tasks were finished. Raises `PeerError` when that takes too long."""

    def reached() -> bool:
        if any(workers.dead() for workers in groups):
            raise PeerError(f"a worker ended by itself: {tail(bench.log)}")
        return marks.finished() >= tasks

    if not wait_for(reached, BOOT_SECONDS, 0.001):
        done = marks.finished()
        raise PeerError(f"{done} of {tasks} tasks done in {BOOT_SECONDS:.0f} s: {tail(bench.log)}")


def enqueue(client: Client, mode: str, first: int, tasks: int, budget: float) -> Row:
    """Enqueue no-ops; the reply says how many and how long it took."""
    return client.ask(
        budget + 30, op="enqueue", mode=mode, task="noop", first=first, count=tasks, budget=budget
    )


def rate(reply: Row) -> float | None:
    """Tasks a second, None when nothing was sent."""
    return reply["count"] / reply["seconds"] if reply["count"] else None


def measure_enqueue(bench: Bench) -> Row:
    """Rates for one caller, for 100 concurrent callers, and for the bulk call."""
    plan, row = bench.plan, Row()
    with bench.session(plan.tasks, "throughput") as (client, _):
        enqueue(client, "single", 0, 20, 1.0)
        quarter, first = plan.tasks // 4, 20
        parts = [("single", quarter), ("concurrent", quarter)]
        if bench.about["bulk"]:
            parts.append(("bulk", plan.tasks // 2))
        for mode, size in parts:
            row[f"enqueue_{mode}"] = rate(enqueue(client, mode, first, size, plan.enqueue_seconds))
            first += size
    return row


def measure_drain(bench: Bench, processes: int) -> Row:
    """Drain a preloaded queue; grow the load when it was gone too fast to be measured well."""
    size = bench.sizes.get(processes, bench.plan.tasks)
    row = drain(bench, processes, size)
    while too_short(row, processes) and size < bench.plan.largest:
        size = min(bench.plan.largest, size * 5)
        bench.sizes[processes] = size
        before = row
        row = drain(bench, processes, size)
        if row["tasks"] <= before["tasks"]:  # the producer could not load more in its time
            return before if before["rate"] else row
    return row


def too_short(row: Row, processes: int) -> bool:
    """Whether the load was finished within half a second, or before all workers joined."""
    return bool(row["emptied"]) and (row["window"] < 0.5 or row["processes"] < processes)


def drain(bench: Bench, processes: int, size: int) -> Row:
    """Preload `size` no-ops, start the workers, and watch the marks."""
    plan = bench.plan
    with bench.session(size, "throughput") as (client, marks):
        mode = "bulk" if bench.about["bulk"] else "concurrent"
        loaded = enqueue(client, mode, 0, size, plan.preload_seconds)["count"]
        with bench.workers(client, marks, processes, "throughput") as workers:
            await_tasks(bench, marks, 1, workers)
            begun, worker, server = marks.finished(), cpu_seconds(workers.roots), bench.store.cpu()
            wait_for(lambda: marks.finished() >= loaded, plan.drain_seconds)
            time.sleep(SETTLE_SECONDS)  # the last acknowledgements belong to the price
            ended = marks.finished()
            worker = cpu_seconds(workers.roots) - worker
            server = bench.store.cpu() - server
        per_10k = 10_000 / max(1, ended - begun)
        return steady_rate(marks) | {
            "tasks": loaded,
            "emptied": ended >= loaded,
            "cpu_worker": worker * per_10k,
            "cpu_server": server * per_10k,
            "repeated": marks.repeated(),
        }


def steady_rate(marks: Marks) -> Row:
    """Tasks a second from the moment when the last worker process joined in."""
    starts = marks.starts()
    first: dict[int, float] = {}
    for moment, process in starts:
        first.setdefault(process, moment)
    joined = max(first.values())
    window = starts[-1][0] - joined
    inside = sum(1 for moment, _ in starts if moment > joined)
    return {
        "rate": inside / window if window > 0.02 else None,
        "window": window,
        "processes": len(first),
    }


def measure_latency(bench: Bench) -> Row:
    """Memory of an idle worker, then start latency at 100 tasks a second."""
    warmup, measured = 50, int(bench.plan.latency_seconds * 100)
    with bench.session(warmup + measured, "throughput") as (client, marks):
        enqueue(client, "single", 0, warmup, 5.0)
        with bench.workers(client, marks, 1, "throughput") as workers:
            await_tasks(bench, marks, warmup, workers)
            time.sleep(1.0)
            resident, proportional = memory_bytes(workers.roots)
            before = cpu_seconds(workers.roots)
            client.ask(
                60, op="paced", marks=str(marks.path), first=warmup, count=measured, rate=100
            )
            wait_for(lambda: marks.finished() >= warmup + measured, 5.0)
            used = cpu_seconds(workers.roots) - before
        delays = sorted(
            (marks.started[number] - marks.sent[number]) * 1000
            for number in range(warmup, warmup + measured)
            if marks.started[number]
        )
    if len(delays) < measured * 0.9:
        raise PeerError(f"only {len(delays)} of {measured} paced tasks started")
    cuts = quantiles(delays, n=100, method="inclusive")
    return {
        "latency_p50": cuts[49],
        "latency_p99": cuts[98],
        "latency_cpu": used,
        "rss": resident,
        "pss": proportional,
    }


def measure_crash(bench: Bench) -> Row:
    """Two hosts of 10 slots on tasks of 50 ms; one is killed with -9 and started again."""
    tasks = bench.plan.crash_tasks
    with (
        bench.session(WARMUP + tasks, "default") as (client, marks),
        bench.workers(client, marks, 1, "default", SLOTS) as victim,
        bench.workers(client, marks, 1, "default", SLOTS) as witness,
    ):
        warm_up(bench, client, marks, [victim, witness])
        if load_naps(bench, client, WARMUP, tasks) < tasks:
            raise PeerError("the tasks could not be enqueued")
        done = marks.finished()
        await_tasks(bench, marks, done + tasks * 3 // 10, victim, witness)
        return crash(bench, client, marks, victim)


def load_naps(bench: Bench, client: Client, first: int, tasks: int) -> int:
    """Enqueue tasks of 50 ms."""
    mode = "bulk" if bench.about["bulk"] else "concurrent"
    reply = client.ask(
        60, op="enqueue", mode=mode, task="nap", first=first, count=tasks, budget=30.0
    )
    return int(reply["count"])


def warm_up(bench: Bench, client: Client, marks: Marks, hosts: list[Workers]) -> None:
    """Feed tasks until each host has run some: both shall be at work when one is killed."""
    for first in range(0, WARMUP, 40):
        load_naps(bench, client, first, 40)
        await_tasks(bench, marks, first + 40, *hosts)
        seen = set(marks.process.tolist())
        if all(seen & host.ids() for host in hosts):
            return
    raise PeerError("one of the two hosts took no task")


def freeze_at_work(marks: Marks, victim: Workers) -> int:
    """Stop all processes of a host at a moment when tasks are in flight; return how many."""
    members = victim.ids()
    for _ in range(200):
        victim.signal(signal.SIGSTOP)
        if running := marks.running(members, WARMUP):
            return running
        victim.signal(signal.SIGCONT)
        time.sleep(0.013)
    raise PeerError("the host to be killed had no task in flight")


def crash(bench: Bench, client: Client, marks: Marks, victim: Workers) -> Row:
    """Kill, restart, wait until everything is done or the time is up."""
    tasks = bench.plan.crash_tasks
    interrupted = freeze_at_work(marks, victim)
    killed = time.monotonic()
    victim.kill()
    with bench.workers(client, marks, 1, "default", SLOTS):
        recovered = wait_for(
            lambda: marks.finished(WARMUP) >= tasks, bench.plan.crash_seconds, 0.02
        )
        seconds = time.monotonic() - killed
        if recovered:
            time.sleep(1.0)  # a second run of a finished task would show about now
    return {
        "recovery": seconds if recovered else None,
        "recovery_limit": bench.plan.crash_seconds,
        "interrupted": interrupted,
        "never_done": tasks - marks.finished(WARMUP),
        "done_twice": marks.repeated(WARMUP),
        "crash_tasks": tasks,
    }
