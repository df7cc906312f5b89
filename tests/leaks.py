"""Every test leaves nothing behind: threads, tasks, child processes, file descriptors.

A pytest plugin, registered by `tests/conftest.py`. What a wider fixture (session, module) starts
while a test runs is adopted, not blamed on the test. A clean test costs well under 1 ms.
"""

import asyncio
import contextlib
import gc
import inspect
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers.process import SPAWNER_THREAD

TASK_FIXTURE = "_no_leaked_tasks"
GRACE_SECONDS = 2.0
_POLL_SECONDS = 0.01
# Daemon threads are a library's own affair, except ours.
_OUR_THREADS = ("conveyor", "fault-proxy")
_FOREIGN_THREADS = (SPAWNER_THREAD, "pytest_timeout", "execnet", "pydevd")


@dataclass
class Snapshot:
    """What a process holds at one moment."""

    threads: set[threading.Thread] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    descriptors: set[tuple[str, str]] = field(default_factory=set)

    def minus(self, other: "Snapshot") -> "Snapshot":
        """Return what this one holds and `other` does not."""
        return Snapshot(
            self.threads - other.threads,
            self.children - other.children,
            self.descriptors - other.descriptors,
        )

    def adopt(self, other: "Snapshot") -> None:
        """Add all that `other` holds."""
        self.threads |= other.threads
        self.children |= other.children
        self.descriptors |= other.descriptors

    def __bool__(self) -> bool:
        return bool(self.threads or self.children or self.descriptors)

    def complaints(self) -> list[str]:
        """Describe every leak in one line: what it is, and what to do."""
        lines = [
            f"thread {thread.name!r} still runs; join it before the test ends"
            for thread in self.threads
        ]
        lines += [f"child process {_describe(pid)}; stop and reap it" for pid in self.children]
        lines += [
            f"file descriptor {number} ({target}) is still open; close it"
            for number, target in self.descriptors
        ]
        return sorted(lines)


class LeakWatch:
    """The pytest plugin."""

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self._grace = grace
        self._baseline = Snapshot()
        self._children = ChildList()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        self._baseline = self._snapshot()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        result = yield
        complaints = self._complaints()
        if complaints:
            pytest.fail("The test left behind:\n  " + "\n  ".join(complaints), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        before = self._snapshot()
        try:
            return (yield)
        finally:
            self._baseline.adopt(self._snapshot().minus(before))

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Give every async test the fixture that checks its tasks, before all its others."""
        if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.function):
            return
        names = item.fixturenames
        if TASK_FIXTURE in names:
            return
        wider = sum(_is_wide(item, name) for name in names)
        # Names are in order of scope; the first one set up is the last one torn down.
        names.insert(wider, TASK_FIXTURE)

    def _complaints(self) -> list[str]:
        leaks = self._snapshot().minus(self._baseline)
        if not leaks:
            return []
        complaints = collect_garbage()
        deadline = time.monotonic() + self._grace
        while leaks and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            leaks = self._snapshot().minus(self._baseline)
        return complaints + leaks.complaints()

    def _snapshot(self) -> Snapshot:
        return Snapshot(_threads(), self._children.current(), _descriptors())


@pytest.fixture
async def _no_leaked_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(10):
        # Tasks that were just cancelled need a few rounds to end.
        await asyncio.sleep(0)
    leaked = {task for task in asyncio.all_tasks() - before if not _is_of_the_runner(task)}
    if not leaked:
        return
    names = "\n  ".join(sorted(f"{task.get_name()}: {task.get_coro()!r}" for task in leaked))
    pytest.fail(f"The test left asyncio tasks; await or cancel them:\n  {names}", pytrace=False)


def _is_of_the_runner(task: "asyncio.Task[Any]") -> bool:
    # anyio runs each fixture step in a task of its own, this check too.
    return getattr(task.get_coro(), "__qualname__", "").startswith("TestRunner.")


def collect_garbage() -> list[str]:
    """Collect garbage; return what it complained about, such as sockets that nobody closed.

    Else pytest would report these at the next test, which is not to blame.
    """
    complaints: list[str] = []
    hook = sys.unraisablehook
    sys.unraisablehook = lambda args: complaints.append(
        f"{type(args.exc_value).__name__}: {args.exc_value}"
    )
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook
    return complaints


class ChildList:
    """The child processes of this one, without looking twice at processes of others."""

    def __init__(self) -> None:
        self._others: set[str] = set()

    def current(self) -> set[int]:
        """Return the process ids of all children, also ended ones that nobody has reaped."""
        if not _may_have_children():
            return set()
        return self._scan() - _machinery()

    def _scan(self) -> set[int]:
        if sys.platform != "linux":
            return {child.pid for child in psutil.Process().children()}
        entries = {entry.name for entry in os.scandir("/proc") if entry.name.isdecimal()}
        self._others &= entries
        ours = {entry for entry in entries - self._others if _parent(entry) == os.getpid()}
        self._others |= entries - ours
        return {int(entry) for entry in ours}


def _threads() -> set[threading.Thread]:
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith(_FOREIGN_THREADS)
        and (not thread.daemon or thread.name.startswith(_OUR_THREADS))
    }


def _descriptors() -> set[tuple[str, str]]:
    if sys.platform != "linux":
        return set()
    found = set()
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - twice for every test
        # The folder's own descriptor is gone by now.
        with contextlib.suppress(OSError):
            found.add((entry, os.readlink(f"/proc/self/fd/{entry}")))  # noqa: PTH115
    tracker = getattr(multiprocessing.resource_tracker._resource_tracker, "_fd", None)
    return {(number, target) for number, target in found if number != str(tracker)}


def _may_have_children() -> bool:
    if not hasattr(os, "waitid"):
        return True
    try:
        # Asks only whether there is any child; reaps none.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _machinery() -> set[int]:
    tracker = getattr(multiprocessing.resource_tracker._resource_tracker, "_pid", None)
    server = getattr(multiprocessing.forkserver._forkserver, "_forkserver_pid", None)
    return {pid for pid in (tracker, server) if pid}


def _parent(entry: str) -> int:
    try:
        stat = Path("/proc", entry, "stat").read_bytes()
    except OSError:
        return 0
    # The name, in parentheses, may hold anything.
    return int(stat.rpartition(b")")[2].split()[1])


def _describe(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return f"{pid} ({process.name()}: ended, but a zombie)"
        return f"{pid} ({process.status()}: {' '.join(process.cmdline())[:200]})"
    except psutil.Error:
        return str(pid)


def _is_wide(item: pytest.Function, name: str) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs.get(name)
    return definitions is not None and definitions[-1].scope != "function"
