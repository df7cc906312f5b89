"""What the tests of worker processes share: conditions with deadlines, and a worker to end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil

from conveyor.brokers.base import Broker
from conveyor.core.errors import BrokerUnavailable
from conveyor.core.task import Lease, NewTask, State, Task, TaskInfo
from conveyor.system import new_id
from conveyor.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
TARGET = "tests.worker.apps:app"
START = "import sys, msgspec; from conveyor.worker import supervisor, settings; sys.exit("
START += "supervisor.run(msgspec.json.decode(sys.argv[1], type=settings.WorkerSettings)))"


def eventually(condition: Callable[[], Any], within: float = 10.0) -> Any:
    """Wait until the condition holds and return its value; fail after `within` seconds."""
    began = time.monotonic()
    while not (value := condition()):
        time.sleep(_pause(began, within))
    return value


async def soon(condition: Callable[[], Any], within: float = 10.0) -> Any:
    """Do what `eventually` does, on the loop; the condition may be a coroutine function."""
    began = time.monotonic()
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        await asyncio.sleep(_pause(began, within))


def _pause(began: float, within: float) -> float:
    """Seconds until the next look: who has waited for long looks less often."""
    waited = time.monotonic() - began
    assert waited < within, f"not within {within} s"
    return min(max(waited / 25, 0.01), 0.25)


def lease_of(name: str, args: tuple[Any, ...] = (), **fields: Any) -> Lease:
    """Make a lease of a task of the test app."""
    payload = msgspec.msgpack.encode((args, {}))
    task = Task(new_id(), f"tests.worker.apps.{name}", "default", 5, payload, time.time(), **fields)
    return Lease(task, 1, worker="w", leased_at=time.time())


def lines(path: Path) -> list[list[str]]:
    """Return the lines of a file, split, as far as it exists."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


async def enqueue(store: Broker, name: str, *args: Any, **fields: Any) -> Task:
    retry = {"max_attempts": 10, "retry_base": 0.01, "retry_cap": 0.01}
    task = lease_of(name, args, **{**retry, **fields}).task
    await store.push([NewTask(task)])
    return task


async def reached(store: Broker, task: Task, state: State, within: float = 15.0) -> TaskInfo:
    async def there() -> TaskInfo | None:
        try:
            found = await store.inspector.get(task.id)
        except BrokerUnavailable:
            return None  # its server was killed by the test, and our connection with it
        return found if found.state is state else None

    found: TaskInfo = await soon(there, within)
    return found


async def started(folder: Path, times: int = 1, within: float = 15.0) -> list[list[str]]:
    """Wait until tasks have started so many times in all; returns (id, execution, pid) of each."""
    found: list[list[str]] = await soon(
        lambda: (seen := lines(folder / "started")) and len(seen) >= times and seen, within
    )
    return found


def child_of(worker: "Worker") -> psutil.Process:
    (child,) = worker.children()
    return child


def is_gone(pid: int) -> bool:
    """Whether the process has ended; that of an orphan may never be reaped in a container."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Worker:
    """A worker started as its own process, as the command line starts it."""

    def __init__(self, settings: WorkerSettings, cwd: Path) -> None:
        self.log = cwd / f"worker-{new_id()}.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, msgspec.json.encode(settings).decode()],
                cwd=cwd,
                env=environment,
                stdout=log,
                stderr=log,
            )

    @property
    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text()

    def children(self) -> list[psutil.Process]:
        """Return the children of the supervisor."""
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def end(self, within: float = 15.0) -> int:
        """Wait for its exit code."""
        return self.process.wait(within)


@contextmanager
def running(cwd: Path, **settings: Any) -> Iterator[Worker]:
    """Run a worker with a short lease; whatever is left of it at the end is killed."""
    defaults: dict[str, Any] = {"target": TARGET, "lease": 5.0, "renew_every": 0.5}
    worker = Worker(WorkerSettings(**{**defaults, **settings}), cwd)
    family: list[psutil.Process] = []
    try:
        yield worker
    except BaseException:
        print(worker.text)
        raise
    finally:
        if worker.process.poll() is None:
            family = psutil.Process(worker.process.pid).children(recursive=True)
            worker.signal(signal.SIGKILL)
            worker.process.wait()
        for process in family:
            if process.is_running():
                process.kill()
        for process in family:
            eventually(partial(is_gone, process.pid))
