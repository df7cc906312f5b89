"""What every server handle can do."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.folders import Folder
from tests.servers.ports import free_port
from tests.servers.process import PLAIN, ServerProcess, User

START_SECONDS = 30.0
_PORT_TRIES = 8
_POLL_SECONDS = 0.005
_LOG_LINES = 40


class ServerFailed(Exception):
    """A server did not start; the message ends with the tail of its log."""


class Managed(ABC):
    """Something to be started and closed, by hand or as a context manager."""

    @abstractmethod
    def start(self) -> Self:
        """Start it; returns when it serves."""

    @abstractmethod
    def close(self) -> None:
        """Stop it and remove what it made."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()


class Server(Managed):
    """A server on 127.0.0.1 that a test can stop, kill, restart and pause.

    Data and `log` live in `directory`: a given one is kept, an own temporary one is removed by
    `close()`. The port is chosen at the first start and stays the same over restarts.
    Use it as a context manager, or call `start()` and `close()`.
    """

    name: str
    _stop_signal = signal.SIGTERM
    _needs_bus_port = False

    def __init__(
        self, directory: Path | None = None, *, as_user: User = PLAIN, in_memory: bool = False
    ) -> None:
        self._folder = None if directory else Folder(self.name, in_memory=in_memory)
        self.directory = directory or Path(self._folder.path if self._folder else "")
        self.log = self.directory / f"{self.name}.log"
        self.port = 0
        self._user = as_user
        self._process: ServerProcess | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL that clients connect to."""

    @property
    def running(self) -> bool:
        """Whether the server process lives (it may be paused)."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise ServerFailed(f"The {self.name} server is not running; call start() first.")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and return once it answers.

        Raises `ServerFailed` with the log's tail when it ends early or is not ready in 30 s.
        """
        if self.running:
            return self
        self._prepare()
        pinned = self.port
        for _ in range(1 if pinned else _PORT_TRIES):
            self.port = pinned or free_port(bus=self._needs_bus_port)
            log_start = self.log.stat().st_size if self.log.exists() else 0
            self._process = ServerProcess(self._command(), log=self.log, as_user=self._user)
            if self._wait_until_ready():
                return self
            self.kill()
            if not self._lost_the_port(log_start):
                break
        port, self.port = self.port, pinned
        raise ServerFailed(f"The {self.name} server did not start on port {port}.\n{self.tail()}")

    def stop(self, timeout: float = 10.0) -> None:
        """Stop the server in its orderly way; SIGKILL after `timeout` seconds."""
        if self._process is not None:
            self._process.resume()
            self._process.stop(self._stop_signal, timeout)

    def kill(self) -> None:
        """SIGKILL the server with its children: what was not yet flushed is lost."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Start again on the same port and data, after `stop()` if it still runs."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, until `resume()`."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """SIGCONT after `pause()`."""
        if self._process is not None:
            self._process.resume()

    def close(self) -> None:
        """Stop the server and remove its own temporary folder."""
        self.stop()
        if self._folder is not None:
            self._folder.remove()

    def tail(self) -> str:
        """Return the last lines of the log."""
        if not self.log.exists():
            return f"(no log at {self.log})"
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"Last lines of {self.log}:", *lines])

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data folder ready for a start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line, for the current `port`."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether our own process (not another one on this port) answers."""

    def _wait_until_ready(self) -> bool:
        return (
            wait_for(lambda: not self.running or self._is_ready(), START_SECONDS) and self.running
        )

    def _lost_the_port(self, log_start: int) -> bool:
        with self.log.open("rb") as log:
            log.seek(log_start)
            return b"in use" in log.read()


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition` every 5 ms; return whether it became true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
