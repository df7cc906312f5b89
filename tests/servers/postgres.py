"""A PostgreSQL server with databases cloned from templates in milliseconds."""

import asyncio
import secrets
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import psycopg

from tests.servers.base import Server, ServerFailed
from tests.servers.binaries import postgres_bindir, postgres_major
from tests.servers.process import not_root

T = TypeVar("T")
SUPERUSER = "postgres"
# The first version with a choice of strategy; older ones always copy files.
_STRATEGY_SINCE = 15


class PostgresServer(Server):
    """A PostgreSQL server of its own data folder, ready in 1–2 s, without root.

    `fsync`: off for speed, as nothing needs to survive a power cut; kill tests lose nothing by
    it, for the operating system lives on. Without it the data lies in memory where there is room.
    `settings`: further configuration parameters. `url` is the maintenance database; tests work in
    `create_database()`.
    """

    name = "postgres"
    # Fast shutdown: sessions are ended, not waited for.
    _stop_signal = signal.SIGINT

    def __init__(
        self,
        *,
        fsync: bool = False,
        max_connections: int = 300,
        settings: dict[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._bindir = postgres_bindir()
        self.version = postgres_major(self._bindir)
        super().__init__(directory, as_user=not_root(), in_memory=not fsync)
        self._fsync = fsync
        self._max_connections = max_connections
        self._settings = dict(settings or {})
        self._templates: set[str] = set()
        self._kept: psycopg.Connection[Any] | None = None

    @property
    def url(self) -> str:
        """The maintenance database, which exists always."""
        return self.url_of_database("postgres")

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.directory / "data"

    def url_of_database(self, name: str) -> str:
        """Return the URL of database `name`."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{name}"

    def create_database(self, *, template: str = "template0", name: str | None = None) -> str:
        """Clone `template` into a new database of a unique name (or `name`); return its URL."""
        name = name or f"t_{secrets.token_hex(6)}"
        strategy = " STRATEGY file_copy" if self.version >= _STRATEGY_SINCE else ""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{strategy}')
        return self.url_of_database(name)

    def drop_database(self, url: str) -> None:
        """Drop the database of `url`, ending the sessions in it."""
        name = url.rpartition("/")[2].partition("?")[0]
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def template(self, name: str, prepare: Callable[[str], None]) -> str:
        """Return template database `name`; at the first call `prepare(url)` fills it."""
        if name not in self._templates:
            url = self.create_database(name=name)
            prepare(url)
            # Nobody may connect any more: an open session would make every clone fail.
            self.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            self._templates.add(name)
        return name

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Keep a connection to the maintenance database: to connect takes longer than to clone."""
        with psycopg.connect(self.url, autocommit=True) as kept:
            self._kept = kept
            try:
                yield
            finally:
                self._kept = None

    def execute(self, *statements: str, url: str | None = None) -> None:
        """Run statements in the maintenance database (or `url`), also inside a running loop."""
        if self._kept is not None and url is None:
            for statement in statements:
                self._kept.execute(statement)
            return
        run_in_own_loop(self._execute(url or self.url, statements))

    def fetch(self, query: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query in the maintenance database (or `url`)."""
        return run_in_own_loop(self._fetch(url or self.url, query))

    @staticmethod
    async def _execute(url: str, statements: tuple[str, ...]) -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    @staticmethod
    async def _fetch(url: str, query: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    def _prepare(self) -> None:
        if not self.data.exists():
            self._initialise()
        # Left by a SIGKILL; its process id may belong to a stranger or a zombie by now.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _initialise(self) -> None:
        self._user.own(self.directory)
        done = self._user.run(
            [
                str(self._bindir / "initdb"),
                f"--pgdata={self.data}",
                f"--username={SUPERUSER}",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ],
            timeout=120,
        )
        if done.returncode:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServerFailed(f"initdb in {self._bindir} failed.\n{done.stdout}{done.stderr}")

    def _command(self) -> list[str]:
        parameters = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(self._max_connections),
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "synchronous_commit": "on",
            # In the data folder, not in /dev/shm, where a SIGKILL would leave it for ever.
            "dynamic_shared_memory_type": "mmap",
            **self._settings,
        }
        options = [word for key, value in parameters.items() for word in ("-c", f"{key}={value}")]
        return [str(self._bindir / "postgres"), "-D", str(self.data), *options]

    def _is_ready(self) -> bool:
        # What pg_ctl waits for: our own postmaster writes its state into the last line.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"


def run_in_own_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread and loop of its own; return its result.

    Blocks the caller, also inside a running loop: for short maintenance work only.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tests-servers-loop") as thread:
        return thread.submit(asyncio.run, work).result()
