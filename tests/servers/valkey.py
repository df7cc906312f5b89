"""A Valkey (or Redis) server."""

from pathlib import Path
from typing import Literal

import redis

from tests.servers.base import Server
from tests.servers.binaries import redis_server

Aof = Literal["always", "everysec", "none"]


class ValkeyServer(Server):
    """A Valkey server, ready in about 40 ms.

    `aof`: append-only file fsynced at every write, every second, or no persistence at all.
    `settings`: further lines of the configuration file, e.g. `{"maxmemory": "64mb"}`.
    With `password`, `url` carries it.
    """

    name = "valkey"

    def __init__(
        self,
        *,
        aof: Aof = "none",
        password: str | None = None,
        settings: dict[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._binary = redis_server()
        super().__init__(directory)
        self.aof: Aof = aof
        self.password = password
        self._settings = dict(settings or {})

    @property
    def url(self) -> str:
        """`redis://…/0` over TCP."""
        return self.url_of_database(0)

    @property
    def socket_path(self) -> Path:
        """The Unix socket, for benchmarks that want no TCP."""
        return self.directory / "valkey.sock"

    def url_of_database(self, number: int) -> str:
        """Return the URL of database `number` (0–15)."""
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/{number}"

    def client(self, **options: object) -> "redis.Redis":
        """Return a new synchronous client; close it (it is a context manager)."""
        return redis.Redis.from_url(self.url, **options)

    def _prepare(self) -> None:
        self.directory.mkdir(exist_ok=True)

    def _command(self) -> list[str]:
        configuration = self.directory / "valkey.conf"
        configuration.write_text(self._configuration())
        # Also the password goes by file: a command line is public on the machine.
        configuration.chmod(0o600)
        return [str(self._binary), str(configuration)]

    def _configuration(self) -> str:
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self.socket_path),
            "dir": str(self.directory),
            "save": '""',
            "appendonly": "no" if self.aof == "none" else "yes",
            "appendfsync": "everysec" if self.aof == "none" else self.aof,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            **self._settings,
        }
        if self.password:
            lines["requirepass"] = lines["masterauth"] = self.password
        return "".join(f"{key} {value}\n" for key, value in lines.items())

    def _is_ready(self) -> bool:
        try:
            with self.client(socket_timeout=2, retry=None) as client:
                # Not PING: another server may have won this port a moment ago.
                answer = client.info("server")
        except redis.RedisError:
            return False
        return bool(answer["process_id"] == self.pid)
