"""The watch for leaks: every kind of leak is found, clean and shared things are not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leaks import LeakWatch

ROOT = Path(__file__).parents[2]

CONFTEST = """
import socket
import pytest
from tests.leaks import LeakWatch, _no_leaked_tasks

def pytest_configure(config):
    config.pluginmanager.register(LeakWatch(grace=0.1))

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="session")
def shared():
    with socket.socket() as sock:
        yield sock

@pytest.fixture
def lazily(request):
    return request.getfixturevalue("shared")
"""

TESTS = """
import asyncio, socket, sqlite3, subprocess, threading, time

kept = []

def test_thread():
    threading.Thread(target=time.sleep, args=(2,), name="stray").start()

def test_our_daemon():
    threading.Thread(target=time.sleep, args=(3,), name="conveyor-x", daemon=1).start()

def test_child():
    kept.append(subprocess.Popen(["sleep", "30"]))

def test_unreaped_child():
    kept[0].kill()
    kept.append(subprocess.Popen(["true"]))

def test_socket():
    kept.append(socket.socket())

def test_database(tmp_path):
    kept.append(sqlite3.connect(tmp_path / "left.db"))

async def test_task():
    kept.append(asyncio.ensure_future(asyncio.Event().wait()))

def test_shared_is_not_blamed(lazily):
    pass

async def test_async_shared_is_not_blamed(lazily):
    await asyncio.to_thread(str)

async def test_clean():
    await asyncio.create_task(asyncio.sleep(0))
    with subprocess.Popen(["true"]):
        pass

def test_clean_up():
    for thing in kept:
        (thing.wait if hasattr(thing, "wait") else getattr(thing, "close", str))()
"""

# Test name, and what its error must say.
FOUND = {
    "test_thread": "thread 'stray' still runs",
    "test_our_daemon": "thread 'conveyor-x' still runs",
    "test_child": "sleep 30",
    "test_unreaped_child": "zombie",
    "test_socket": "(socket:[",
    "test_database": "left.db) is still open",
    "test_task": "The test left asyncio tasks",
}


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are read from /proc")
def test_leaks_are_found_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    tests = tmp_path / "test_sample.py"
    tests.write_text(TESTS.replace("test_clean_up", "test_zz_clean_up"))
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "anyio", str(tests)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    errors = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert {error.rpartition("::")[2] for error in errors} == set(FOUND), done.stdout
    for name, words in FOUND.items():
        section = done.stdout.partition(f"ERROR at teardown of {name} ")[2].partition("\n____")[0]
        assert words in section, done.stdout
    assert f"{TESTS.count('def test_')} passed" in done.stdout


def test_a_look_at_a_clean_process_finds_nothing() -> None:
    watch = LeakWatch()
    before = watch._snapshot()
    assert not watch._snapshot().minus(before)
