"""Starting a process of our own, talking to it over two pipes, and learning how it died."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from conveyor.worker.frames import FrameReader, frame

KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
_FROM_OUTSIDE = (KILL, signal.SIGTERM, signal.SIGINT)
_KIB = 1_024
_MIB = 1_024 * 1_024


class Exit(msgspec.Struct, frozen=True):
    """How a process ended. `code` is its exit code, or minus the signal that killed it."""

    code: int
    peak_rss: int = 0
    """Most resident memory it ever had, bytes; 0 where the system does not tell."""
    at_most: bool = False
    """Whether `peak_rss` is only an upper bound."""

    @property
    def was_asked_for(self) -> bool:
        """Whether somebody outside ended it (a person, a kernel short of memory), not its code."""
        return -self.code in _FROM_OUTSIDE

    def __str__(self) -> str:
        """Say it in words, for logs and errors."""
        return f"{self._cause()}{self._memory()}"

    def _cause(self) -> str:
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            name = f" ({signal.Signals(-self.code).name})"
        except ValueError:
            name = ""
        return f"was killed by signal {-self.code}{name}"

    def _memory(self) -> str:
        if not self.peak_rss:
            return ""
        return f", peak RSS {'at most ' if self.at_most else ''}{self.peak_rss / _MIB:.0f} MiB"


class Spawned:
    """A Python process running one of our modules, with a pipe to it and one from it.

    Messages that come in go to `on_frame`; `exited` is done when the process is gone and its last
    words were delivered. With `own_group` it leads a process group, and all of it is killed.
    It inherits the descriptor `share` under the same number (POSIX).
    """

    def __init__(
        self,
        module: str,
        on_frame: Callable[[bytes], Any],
        *,
        own_group: bool = False,
        share: int | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._own_group = own_group and os.name == "posix"
        self._lock = threading.Lock()
        self._gone = False
        self._floor = _own_peak()
        theirs_in, self._out = os.pipe()
        ours_in, theirs_out = os.pipe()
        try:
            self._popen = _popen(module, (theirs_in, theirs_out), share, self._own_group)
        except OSError:
            os.close(self._out)
            os.close(ours_in)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        if os.name == "posix":
            os.set_blocking(self._out, False)
        self.pid = self._popen.pid
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self._reader = FrameReader(ours_in, on_frame)
        self._waiter = threading.Thread(target=self._wait, name="conveyor-reaper", daemon=True)
        self._waiter.start()

    def send(self, message: Any) -> bool:
        """Send a small message without waiting; False when the process does not listen."""
        try:
            return os.write(self._out, frame(message)) > 0
        except OSError:
            return False

    async def send_all(self, message: Any) -> None:
        """Send a message of any size. Raises `OSError` when the process does not listen."""
        rest = memoryview(frame(message))
        while rest and not self.exited.done():
            try:
                rest = rest[os.write(self._out, rest) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)

    def signal(self, number: int) -> None:
        """Send a signal to the process (and its group, if it leads one). Too late is fine."""
        with self._lock:
            if self._gone:
                return
            if self._own_group:
                _signal_group(self.pid, number)
            else:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it now."""
        self.signal(KILL)

    # -- the waiting thread

    def _wait(self) -> None:
        _wait_until_dead(self._popen)
        with self._lock:
            if self._own_group:
                # What the process left behind: its own children would outlive the task. The
                # group cannot be someone else's, for its dead leader is not reaped yet.
                _signal_group(self.pid, KILL)
            ended = _reap(self._popen, self._floor)
            self._gone = True
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(self._report, ended)

    def _report(self, ended: Exit) -> None:
        self._waiter.join()
        self._reader.drain()
        self._reader.close()
        os.close(self._out)
        if not self.exited.done():
            self.exited.set_result(ended)


def open_pipes(arguments: list[str]) -> tuple[int, int]:
    """In the started process: the descriptors to read from and to write to."""
    numbers = [int(argument) for argument in arguments[:2]]
    if sys.platform == "win32":
        import msvcrt

        return (
            msvcrt.open_osfhandle(numbers[0], os.O_RDONLY),
            msvcrt.open_osfhandle(numbers[1], os.O_WRONLY),
        )
    for number in numbers:
        # Programs that user code starts must not hold these open.
        os.set_inheritable(number, False)
    return numbers[0], numbers[1]


def _popen(
    module: str, pipes: tuple[int, int], share: int | None, own_group: bool
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", module]
    if sys.platform == "win32":
        import msvcrt

        handles = [msvcrt.get_osfhandle(fd) for fd in pipes]
        for handle in handles:
            os.set_handle_inheritable(handle, True)
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": handles})
        return subprocess.Popen(
            [*command, *map(str, handles)], stdin=subprocess.DEVNULL, startupinfo=startup
        )
    return subprocess.Popen(
        [*command, *map(str, pipes)],
        stdin=subprocess.DEVNULL,
        pass_fds=pipes if share is None else (*pipes, share),
        process_group=0 if own_group else None,
    )


def _wait_until_dead(popen: subprocess.Popen[bytes]) -> None:
    """Wait without reaping, where the system can: until then its number cannot be reused."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
    elif sys.platform == "win32":
        popen.wait()


def _reap(popen: subprocess.Popen[bytes], floor: int) -> Exit:
    if sys.platform == "win32":
        return Exit(popen.wait())
    _, status, usage = os.wait4(popen.pid, 0)
    # Popen must not wait for it again.
    popen.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else _KIB)
    # Linux counts the memory that parent and child share for an instant between fork and exec.
    return Exit(popen.returncode, max(peak, floor), at_most=peak <= floor)


def _own_peak() -> int:
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def _signal_group(leader: int, number: int) -> None:
    # macOS says "not permitted" of a group of zombies.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
