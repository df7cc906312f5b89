"""How a worker starts, why it cannot, and when its children are replaced."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conveyor.brokers.base import Broker
from conveyor.core.task import State
from tests.worker.harness import (
    Worker,
    child_of,
    enqueue,
    eventually,
    reached,
    running,
    soon,
    started,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


# -- cannot start


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"target": "tests.worker.nowhere:app"}, 2, "nowhere"),
        ({"target": "tests.worker.apps:application"}, 2, "application"),
        ({"target": "tests.worker.apps"}, 2, "MODULE:APP"),
        ({"url": "gopher://:secret@host/"}, 2, "gopher"),
        ({"url": "sqlite:///:memory:"}, 2, "one process"),
        ({"url": "redis://:secret@127.0.0.1:1/0"}, 3, "127.0.0.1"),
    ],
)
def test_a_worker_that_cannot_start_says_why(
    tmp_path: Path, settings: dict[str, Any], code: int, words: str
) -> None:
    with running(tmp_path, processes=2, **settings) as worker:
        assert worker.end() == code
    (line,) = worker.text.strip().splitlines()
    assert words in line
    assert "secret" not in line
    assert "Traceback" not in line


async def test_a_child_that_dies_while_starting_ends_the_worker(
    store: Broker, tmp_path: Path
) -> None:
    (tmp_path / "fatal.py").write_text("import os; os._exit(7)")
    with running(tmp_path, target="fatal:app") as worker:
        assert worker.end() == 1
    assert "while it was starting, child" in worker.text
    assert "ended with exit code 7" in worker.text


SLOW_THE_FIRST_TIME = """
import pathlib, time
from conveyor import Conveyor

if not pathlib.Path("once").exists():
    pathlib.Path("once").touch()
    time.sleep(60)
app = Conveyor()
"""


async def test_a_child_killed_from_outside_while_starting_is_replaced(
    store: Broker, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW_THE_FIRST_TIME)
    with running(tmp_path, target="slow:app") as worker:
        eventually((tmp_path / "once").exists)
        child_of(worker).kill()
        eventually(partial(_was_ready, worker, 1))
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    assert "while it was starting, child" in worker.text


FATAL_THE_SECOND_TIME = """
import os, pathlib
from conveyor import Conveyor

try:
    pathlib.Path("first").touch(exist_ok=False)
except FileExistsError:
    while not pathlib.Path("go").exists():
        pass
    try:
        pathlib.Path("second").touch(exist_ok=False)
        os._exit(7)
    except FileExistsError:
        pass
app = Conveyor()

@app.task(name="tests.worker.apps.let_go")
async def let_go():
    pathlib.Path("go").touch()
"""


async def test_a_child_that_dies_while_starting_spares_one_at_work(
    store: Broker, tmp_path: Path
) -> None:
    (tmp_path / "fatal.py").write_text(FATAL_THE_SECOND_TIME)
    await enqueue(store, "let_go")
    with running(tmp_path, target="fatal:app", processes=2) as worker:
        eventually(partial(_was_ready, worker, 2))
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    assert "ended with exit code 7" in worker.text


# -- watching


async def test_reload_replaces_the_child_when_a_file_changes(store: Broker, tmp_path: Path) -> None:
    module = tmp_path / "shop.py"
    module.write_text("from conveyor import Conveyor\napp = Conveyor()\n")
    with running(tmp_path, target="shop:app", reload=True) as worker:
        eventually(lambda: "ready: 0 task" in worker.text)
        module.write_text("from conveyor import Conveyor\napp = Conveyor()\n)\n")
        eventually(lambda: "importing 'shop' failed: SyntaxError" in worker.text, within=15)
        module.write_text(
            "from conveyor import Conveyor\napp = Conveyor()\n@app.task\ndef buy(): pass\n"
        )
        eventually(lambda: "ready: 1 task" in worker.text, within=15)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0


async def test_a_child_worn_by_stuck_threads_is_replaced_when_idle(
    store: Broker, tmp_path: Path
) -> None:
    task = await enqueue(store, "stuck_in_a_thread", str(tmp_path), timeout=0.2, max_attempts=1)
    with running(tmp_path, kill_grace=0.2, stalled_after=1.0) as worker:
        await started(tmp_path)
        before = child_of(worker)
        assert (await reached(store, task, State.FAILED)).executions[0].outcome == "timed_out"
        eventually(lambda: "idle but for 1 stuck thread" in worker.text)
        eventually(lambda: worker.text.count("ready") == 2)
        assert not before.is_running()


async def test_a_child_that_is_told_to_stop_drains_and_is_replaced(
    store: Broker, tmp_path: Path
) -> None:
    task = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path) as worker:
        await started(tmp_path)
        child_of(worker).send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        info = await reached(store, task, State.SUCCEEDED)
        await soon(lambda: worker.text.count("ready") == 2)
    assert len(info.executions) == 1


FAILING_LIFESPAN = """
from contextlib import asynccontextmanager
from conveyor import Conveyor

@asynccontextmanager
async def lifespan(app):
    raise RuntimeError("no database")
    yield {}

app = Conveyor(lifespan=lifespan)
"""


async def test_resources_that_cannot_be_opened_end_the_worker(
    store: Broker, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(FAILING_LIFESPAN)
    with running(tmp_path, target="shop:app") as worker:
        assert worker.end() == 1
    assert "RuntimeError: no database" in worker.text.splitlines()[-1]


async def test_a_child_that_dies_again_and_again_is_replaced(store: Broker, tmp_path: Path) -> None:
    with running(tmp_path) as worker:
        for life in range(1, 4):
            eventually(partial(_was_ready, worker, life))
            child_of(worker).kill()
        eventually(partial(_was_ready, worker, 4))
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0


def _was_ready(worker: Worker, times: int) -> bool:
    return worker.text.count("ready") == times
