"""A primary with replicas, watched by Sentinels."""

from typing import Self

import redis

from tests.servers.base import START_SECONDS, Managed, ServerFailed, wait_for
from tests.servers.valkey import Aof, ValkeyServer

SERVICE = "conveyor"


class Replica(ValkeyServer):
    """A replica of another server."""

    name = "valkey-replica"


class Sentinel(ValkeyServer):
    """One Sentinel process; its configuration file is rewritten by itself while it runs."""

    name = "valkey-sentinel"

    def __init__(self, primary: ValkeyServer, *, quorum: int, down_after: float) -> None:
        super().__init__()
        self._primary = primary
        self._quorum = quorum
        self._down_after = down_after

    def _command(self) -> list[str]:
        configuration = self.directory / "sentinel.conf"
        if not configuration.exists():
            configuration.write_text(self._configuration())
        return [str(self._binary), str(configuration), "--sentinel", "--port", str(self.port)]

    def _configuration(self) -> str:
        down = int(self._down_after * 1000)
        return (
            f"bind 127.0.0.1\nport {self.port}\ndir {self.directory}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary.port} {self._quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down}\n"
            f"sentinel failover-timeout {SERVICE} {max(down * 3, 3000)}\n"
        )


class SentinelSet(Managed):
    """A primary, replicas and Sentinels; a killed primary is replaced in 1–2 s.

    `down_after`: seconds without an answer until the primary counts as down.
    """

    service = SERVICE

    def __init__(
        self, *, replicas: int = 1, sentinels: int = 3, down_after: float = 1.0, aof: Aof = "none"
    ) -> None:
        self._aof: Aof = aof
        self._down_after = down_after
        self._counts = replicas, sentinels
        self.primary = ValkeyServer(aof=aof)
        self.replicas: list[ValkeyServer] = []
        self.sentinels: list[Sentinel] = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every Sentinel."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    @property
    def url(self) -> str:
        """`redis+sentinel://host:port,host:port/service/0`."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    def start(self) -> Self:
        """Start all; returns when the replicas follow and every Sentinel knows all the others."""
        self.primary.start()
        replicas, sentinels = self._counts
        for _ in range(replicas):
            settings = {
                "replicaof": f"127.0.0.1 {self.primary.port}",
                # Full copies begin at once, instead of 5 s later for more replicas to join.
                "repl-diskless-sync-delay": "0",
            }
            self.replicas.append(Replica(aof=self._aof, settings=settings))
            self.replicas[-1].start()
        quorum = sentinels // 2 + 1
        for _ in range(sentinels):
            down = self._down_after
            self.sentinels.append(Sentinel(self.primary, quorum=quorum, down_after=down))
            self.sentinels[-1].start()
        if not wait_for(self._settled, START_SECONDS):
            raise ServerFailed(f"The Sentinels did not settle.\n{self.sentinels[0].tail()}")
        return self

    def primary_address(self) -> tuple[str, int]:
        """Return where the Sentinels say that the primary is now (host, port)."""
        for sentinel in self.sentinels:
            if not sentinel.running:
                continue
            with sentinel.client(decode_responses=True) as client:
                host, port = client.execute_command(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service
                )
            return str(host), int(port)
        raise ServerFailed("No Sentinel is running to be asked for the primary.")

    def wait_for_failover(self, seconds: float = START_SECONDS) -> tuple[str, int]:
        """Wait until another server than the first primary takes writes; return its address."""
        first = ("127.0.0.1", self.primary.port)
        if not wait_for(lambda: self.primary_address() != first and self._writable(), seconds):
            raise ServerFailed(f"No failover in {seconds} s.\n{self.sentinels[0].tail()}")
        return self.primary_address()

    def close(self) -> None:
        """Stop all of them, the Sentinels first."""
        for server in [*self.sentinels, *self.replicas, self.primary]:
            server.close()

    def _writable(self) -> bool:
        host, port = self.primary_address()
        try:
            with redis.Redis(host=host, port=port, socket_timeout=2) as client:
                return bool(client.info("replication")["role"] == "master")
        except redis.RedisError:
            return False

    def _settled(self) -> bool:
        return all(self._knows_all(sentinel) for sentinel in self.sentinels)

    def _knows_all(self, sentinel: Sentinel) -> bool:
        with sentinel.client() as client:
            # A Sentinel lists the others, not itself; a replica counts once its link is up.
            state = client.info("sentinel")["master0"]
        return bool(
            state["status"] == "ok"
            and state["slaves"] == len(self.replicas)
            and state["sentinels"] == len(self.sentinels)
        )
