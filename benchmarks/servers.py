"""The stores of a run: a Valkey and a PostgreSQL of our own on 127.0.0.1, and SQLite files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol

import psutil
import redis

from benchmarks.processes import cpu_seconds
from tests.servers import PostgresServer, Server, ValkeyServer


class Store(Protocol):
    """A place where peers keep their tasks."""

    def url(self, index: int) -> str:
        """The address of the peer number `index`: each has a database of its own."""

    def reset(self, index: int) -> None:
        """Leave that database empty."""

    def cpu(self) -> float:
        """CPU seconds that the server has used so far."""


class Valkey:
    """Valkey with an append-only file that is synced every second."""

    def __init__(self, stack: ExitStack) -> None:
        self._server = stack.enter_context(ValkeyServer(aof="everysec"))

    def url(self, index: int) -> str:
        """See `Store`."""
        return self._server.url_of_database(index)

    def reset(self, index: int) -> None:
        """See `Store`."""
        with redis.Redis.from_url(self.url(index)) as connection:
            connection.flushdb()

    def cpu(self) -> float:
        """See `Store`."""
        return server_cpu(self._server)


class Postgres:
    """PostgreSQL that syncs every commit to the disk."""

    def __init__(self, stack: ExitStack) -> None:
        self._server = stack.enter_context(PostgresServer(fsync=True))

    def url(self, index: int) -> str:
        """See `Store`."""
        return self._server.url_of_database(f"bench{index}")

    def reset(self, index: int) -> None:
        """See `Store`."""
        self._server.drop_database(self.url(index))
        self._server.create_database(name=f"bench{index}")

    def cpu(self) -> float:
        """See `Store`."""
        return server_cpu(self._server)


class Sqlite:
    """Files in the temporary folder, on whatever disk that is."""

    def __init__(self, stack: ExitStack) -> None:
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))

    def url(self, index: int) -> str:
        """See `Store`."""
        return f"sqlite:///{self._folder}/bench{index}.db"

    def reset(self, index: int) -> None:
        """See `Store`."""
        for file in self._folder.glob(f"bench{index}.*"):
            file.unlink(missing_ok=True)

    def cpu(self) -> float:
        """There is no server: its work is in the worker's CPU time."""
        return 0.0


def server_cpu(server: Server) -> float:
    """CPU seconds of a server and of its children, the ended ones included."""
    return cpu_seconds([psutil.Process(server.pid)])


MAKERS: dict[str, Callable[[ExitStack], Store]] = {
    "redis": Valkey,
    "postgres": Postgres,
    "sqlite": Sqlite,
}


class Stores:
    """The stores of a run, started on entry and removed on exit."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._stack = ExitStack()

    def __enter__(self) -> dict[str, Store]:
        with ExitStack() as stack:
            opened = {name: MAKERS[name](stack) for name in self._names}
            self._stack = stack.pop_all()
        return opened

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
