"""The app that the worker processes of these tests import."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from conveyor import Conveyor, Rate, Reject, Retry, Snooze, current_task
from conveyor.limits import Adapt
from conveyor.workflows import step_sync


@asynccontextmanager
async def lifespan(app: Conveyor) -> AsyncIterator[dict[str, Any]]:
    yield {"opened_by": os.getpid()}


app = Conveyor(lifespan=lifespan)
SOON = Retry(max_attempts=10, base=0.01, cap=0.01)


def note(folder: str, name: str) -> None:
    """Leave a line that says which execution was here, in which process."""
    task = current_task()
    with Path(folder, name).open("a") as file:
        file.write(f"{task.id} {task.fencing_token} {os.getpid()}\n")


def touch(folder: str, name: str) -> None:
    Path(folder, name).touch()


def exists(folder: str, name: str) -> bool:
    return Path(folder, name).exists()


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


@app.task
def echo(value: Any) -> Any:
    return value


@app.task(executor="process")
def pid_of_process() -> int:
    return os.getpid()


@app.task(executor="process", retry=SOON)
def steps_in_process(folder: str) -> int:
    """Do a step, note which execution it was, and fail the first time."""

    def noted() -> int:
        note(folder, "step")
        return 10

    value = step_sync("once", noted)
    if current_task().attempt == 1:
        raise ConnectionError("after the step")
    return value


@app.task(executor="process")
async def state_in_process() -> bool:
    await asyncio.sleep(0)
    return bool(current_task().state["opened_by"] == os.getpid())


@app.task(executor="process")
def talk() -> str:
    current_task().progress(1, 2, "half")
    current_task().logger.info("a line from the process")
    return "done"


@app.task(executor="process")
def talk_then_wait(folder: str) -> None:
    current_task().progress(1, 2, "half")
    wait_for(Path(folder, "go"))


@app.task(executor="process")
def end(how: str) -> None:
    match how:
        case "raise":
            raise ValueError("no good")
        case "reject":
            raise Reject("never")
        case "snooze":
            raise Snooze(7)
        case "sys.exit":
            sys.exit(3)
        case "os._exit":
            os._exit(9)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segv":
            ctypes.string_at(0)


class TooManyRequests(Exception):
    status = 429


PARTNER = Rate("100/s", burst=10, name="partner", adapt=Adapt(least="1/s", recover=100))


@app.task(executor="process", rate_limit=PARTNER)
def refused() -> None:
    raise TooManyRequests


@app.task(executor="process")
def sleep_in_process(folder: str) -> None:
    """Wait for ever; leave a file when asked to stop."""
    try:
        note(folder, "started")
        threading.Event().wait()
    finally:
        Path(folder, "cleaned").touch()


@app.task(executor="process")
async def sleep_async_in_process(folder: str) -> None:
    try:
        note(folder, "started")
        await asyncio.Event().wait()
    finally:
        touch(folder, "cleaned")


@app.task(executor="process")
def ignore_sigterm(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(folder, "started")
    threading.Event().wait()


@app.task(executor="process")
def start_a_program(folder: str) -> None:
    """Start a program that would run for ever, and wait for it."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(folder, "program").write_text(str(program.pid))
    note(folder, "started")
    program.wait()


@app.task(retry=SOON)
async def wait_for_go(folder: str) -> int:
    """Wait, on the loop, until the test puts a file called `go` there."""
    note(folder, "started")
    while not exists(folder, "go"):  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(0.01)
    return current_task().fencing_token


@app.task(retry=SOON)
async def wait_forever(folder: str) -> None:
    note(folder, "started")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(folder, "cancelled")
        raise


@app.task(retry=SOON)
async def poison(folder: str) -> None:
    note(folder, "started")
    current_task().logger.info("about to die")
    await asyncio.sleep(2)  # notes are stored twice a second
    os.kill(os.getpid(), signal.SIGSEGV)


@app.task(retry=SOON)
def hold_the_gil(folder: str, seconds: int) -> int:
    """Sleep in C without letting go of the interpreter: nothing else in this process runs."""
    note(folder, "started")
    ctypes.PyDLL(None).sleep(seconds)
    return current_task().fencing_token


@app.task(timeout=0.2)
def stuck_in_a_thread(folder: str) -> None:
    note(folder, "started")
    wait_for(Path(folder, "go"))
