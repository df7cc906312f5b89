"""A Redis Cluster of three nodes."""

from typing import Self

from tests.servers.base import START_SECONDS, Managed, ServerFailed, wait_for
from tests.servers.valkey import Aof, ValkeyServer

_SLOTS = 16_384


class ClusterNode(ValkeyServer):
    """One node: a server in cluster mode, whose bus listens at port + 10000."""

    name = "valkey-node"
    _needs_bus_port = True


class ValkeyCluster(Managed):
    """Three primaries (by default) that share all slots; ready in about 2 s. `settings`: further
    lines of each node's configuration file.
    """

    def __init__(
        self, *, nodes: int = 3, aof: Aof = "none", settings: dict[str, str] | None = None
    ) -> None:
        # A node that lost its peers for 2 s counts as failed (the default is 15 s).
        lines = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", **(settings or {})}
        self.nodes = [ClusterNode(aof=aof, settings=lines) for _ in range(nodes)]

    @property
    def url(self) -> str:
        """The URL of the first node; the others are learnt from it."""
        return self.nodes[0].url

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every node."""
        return [("127.0.0.1", node.port) for node in self.nodes]

    def start(self) -> Self:
        """Start all nodes, share the slots; returns when every node says that all is covered."""
        for node in self.nodes:
            node.start()
        self._share_slots()
        self._meet()
        if not wait_for(self.healthy, START_SECONDS):
            raise ServerFailed(f"The cluster did not form.\n{self.nodes[0].tail()}")
        return self

    def healthy(self) -> bool:
        """Whether every node sees every other one and all slots as served."""
        return all(self._sees_all(node) for node in self.nodes)

    def close(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.close()

    def _share_slots(self) -> None:
        count = len(self.nodes)
        for index, node in enumerate(self.nodes):
            first, last = _SLOTS * index // count, _SLOTS * (index + 1) // count - 1
            with node.client() as client:
                # Command by command, so that Redis 6.2, without ADDSLOTSRANGE, works too.
                client.execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)

    def _meet(self) -> None:
        with self.nodes[0].client() as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)

    def _sees_all(self, node: ValkeyServer) -> bool:
        with node.client(decode_responses=True) as client:
            info = str(client.execute_command("CLUSTER", "INFO"))
        return "cluster_state:ok" in info and f"cluster_known_nodes:{len(self.nodes)}" in info
