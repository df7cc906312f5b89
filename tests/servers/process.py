"""A server process that dies with the test run, and its whole tree as one thing to signal."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import psutil

SPAWNER_THREAD = "tests-servers-spawner"


class ServerProcess:
    """One running server and its children.

    It is killed by the kernel (Linux, `setpriv`) when this interpreter ends in whatever way.
    Standard output and error go to `log`.
    """

    def __init__(self, command: Sequence[str], *, log: Path, as_user: "User") -> None:
        self.log = log
        with log.open("ab") as sink:
            self._process = _spawn([*as_user.prefix, *_die_with_parent(), *command], sink, as_user)

    @property
    def pid(self) -> int:
        """The process id of the server (the programs that start it exec it)."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server process has not ended."""
        return self._process.poll() is None

    def stop(self, number: signal.Signals, timeout: float) -> None:
        """Ask the server to end by signal `number`; SIGKILL the whole tree after `timeout` s."""
        if not self.running:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL the server and its children, as a power cut would; returns when all are gone."""
        tree = self._freeze()
        # The parent first: a living one would notice a dead child and begin its own recovery.
        for process in tree:
            _signal(process, signal.SIGKILL)
        self._process.wait()
        for process in tree[1:]:
            wait_until_gone(process.pid, timeout=10)

    def pause(self) -> None:
        """SIGSTOP the server and its children: connections stay open, nothing answers."""
        self._freeze()

    def resume(self) -> None:
        """SIGCONT the server and its children."""
        for process in self._tree():
            _signal(process, signal.SIGCONT)

    def _freeze(self) -> list[psutil.Process]:
        if self.running:
            self._process.send_signal(signal.SIGSTOP)
        # Listed after the parent stopped, so that it cannot fork another one meanwhile.
        tree = self._tree()
        for process in tree:
            _signal(process, signal.SIGSTOP)
        return tree

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


class User:
    """Whom a server runs as: commands put before it, and the user id to switch to (or none)."""

    def __init__(self, prefix: tuple[str, ...] = (), uid: int | None = None) -> None:
        self.prefix = prefix
        self.uid = uid

    def own(self, folder: Path) -> None:
        """Give `folder` to this user where that is another one."""
        if self.uid is not None:
            os.chown(folder, self.uid, self.uid)

    def run(self, command: Sequence[str], *, timeout: float) -> "subprocess.CompletedProcess[str]":
        """Run a command as this user and return what it did; raises `TimeoutExpired`."""
        return subprocess.run(
            [*self.prefix, *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd="/",
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )


PLAIN = User()


@functools.cache
def not_root() -> User:
    """Return a user whom PostgreSQL accepts: it refuses to run as root.

    An ordinary user runs it as himself. Root runs it in a user namespace, where files stay root's
    own; where namespaces are forbidden (some containers), as `nobody`.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return PLAIN
    namespace = User(("unshare", "--user", "--map-user=1000", "--map-group=1000"))
    try:
        if namespace.run(["true"], timeout=10).returncode == 0:
            return namespace
    except OSError:
        pass
    return User(uid=65534)


def _die_with_parent() -> tuple[str, ...]:
    if sys.platform == "linux" and shutil.which("setpriv"):
        return ("setpriv", "--pdeathsig", "KILL", "--")
    return ()


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


# "Parent death" is the death of the *thread* that forked: a server started from a short-lived
# thread would die with it. This one lives as long as the interpreter.
@functools.cache
def _spawner() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=SPAWNER_THREAD)


def _spawn(command: list[str], sink: BinaryIO, as_user: User) -> "subprocess.Popen[bytes]":
    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=as_user.uid,
            group=as_user.uid,
            extra_groups=None if as_user.uid is None else [],
            # CTRL-C in the terminal is for the test run; it stops its servers itself.
            start_new_session=True,
        )

    return _spawner().submit(start).result()


def wait_until_gone(pid: int, timeout: float) -> bool:
    """Return whether process `pid` ended (or is a zombie) within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.002)
    return False
