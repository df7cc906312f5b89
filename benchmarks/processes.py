"""Starting, watching and killing the processes of a peer."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent


class PeerError(Exception):
    """A peer could not do what was asked; the text says what happened."""


def tied(command: list[str]) -> list[str]:
    """Make the kernel kill the command when the harness dies, where it can."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The environment of peers: this one, the repository importable, no stray settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"} | extra


def wait_for(condition: Callable[[], bool], seconds: float, interval: float = 0.005) -> bool:
    """Poll until the condition holds; False when the time is up first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def tail(path: Path, lines: int = 6) -> str:
    """The end of a log, for an error message."""
    with suppress(OSError):
        return " | ".join(path.read_text(errors="replace").splitlines()[-lines:])[-600:]
    return ""


def tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and all its living descendants."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU time of process trees, children that already ended included."""
    total = 0.0
    for root in processes:
        for member in tree(root):
            with suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                total += times.user + times.system
                total += times.children_user + times.children_system
    return total


def memory_bytes(processes: Iterable[psutil.Process]) -> tuple[int, int]:
    """Resident and proportional set size, summed over process trees."""
    resident = proportional = 0
    for root in processes:
        for member in tree(root):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                info = member.memory_full_info()
                resident += info.rss
                proportional += getattr(info, "pss", 0)
    return resident, proportional


def kill_tree(root: psutil.Process) -> None:
    """SIGKILL a process and its descendants, the parent first so that it respawns nobody."""
    members = tree(root)
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)
    psutil.wait_procs(members, timeout=5)


class Workers:
    """One host's worth of workers: the process trees that `commands` started."""

    def __init__(self, commands: list[list[str]], extra: dict[str, str], log: Path) -> None:
        self.log = log
        self._children: list[subprocess.Popen[bytes]] = []
        self.roots: list[psutil.Process] = []
        with log.open("ab") as file:
            for command in commands:
                child = subprocess.Popen(
                    tied(command),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    env=environment(extra),
                    cwd=ROOT,
                    start_new_session=True,
                )
                self._children.append(child)
                self.roots.append(psutil.Process(child.pid))

    def dead(self) -> bool:
        """Whether a worker ended by itself."""
        return any(child.poll() is not None for child in self._children)

    def ids(self) -> set[int]:
        """The ids of all its processes."""
        return {member.pid for root in self.roots for member in tree(root)}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process."""
        for root in self.roots:
            for member in tree(root):
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(number)

    def kill(self) -> None:
        """SIGKILL everything, as a host that loses power would."""
        for root in self.roots:
            kill_tree(root)
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Client:
    """The producer process of a peer, see `benchmarks.client`."""

    def __init__(self, module: str, python: str, extra: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                tied([python, "-m", "benchmarks.client", module]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment(extra),
                cwd=ROOT,
                start_new_session=True,
            )

    def ask(self, timeout: float = 30.0, **order: object) -> dict[str, Any]:
        """Send one order and wait for its reply. Raises `PeerError`."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise PeerError("the producer has no pipes")
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"the producer ended: {tail(self._log)}") from None
        ready, _, _ = select.select([process.stdout], [], [], timeout)
        if not ready:
            raise PeerError(f"the producer gave no answer to {order['op']} in {timeout:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise PeerError(f"the producer ended: {tail(self._log)}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PeerError(str(reply["error"]))
        return reply

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        kill_tree(psutil.Process(self._process.pid)) if self._process.poll() is None else None
        self._process.wait(5)
