"""Slots that move between the nodes of a cluster, and nodes that go away."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from conveyor.core.errors import BrokerUnavailable
from conveyor.core.task import State
from conveyor.testing.conformance.rig import Rig, ids, ok
from tests.chaos.rigs import rig_on, until
from tests.servers import ValkeyCluster, ValkeyServer

pytestmark = [pytest.mark.chaos, pytest.mark.redis]


@pytest.fixture
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as servers:
        yield servers


@pytest.fixture
async def rig(cluster: ValkeyCluster) -> AsyncIterator[Rig]:
    hosts = ",".join(f"{host}:{port}" for host, port in cluster.addresses)
    async with rig_on(f"redis+cluster://{hosts}?timeout=1") as rig:
        yield rig


def ask(node: ValkeyServer, *words: object) -> object:
    with node.client(decode_responses=True) as client:
        return client.execute_command(*words)


class Move:
    """The slot of a queue on its way from its node to another one, as `redis-cli` would do it."""

    def __init__(self, cluster: ValkeyCluster, queue: str) -> None:
        self.root = f"{{conveyor:{queue}}}"
        self.slot = ask(cluster.nodes[0], "CLUSTER", "KEYSLOT", self.root)
        self.nodes = cluster.nodes
        (self.source,) = filter(self.is_owner, self.nodes)
        self.target = next(node for node in self.nodes if node is not self.source)

    def is_owner(self, node: ValkeyServer) -> bool:
        try:
            ask(node, "EXISTS", self.root)
        except redis.ResponseError:
            return False
        return True

    def begin(self) -> None:
        """From now on keys of the slot may be at either node."""
        source, target = (ask(node, "CLUSTER", "MYID") for node in (self.source, self.target))
        ask(self.target, "CLUSTER", "SETSLOT", self.slot, "IMPORTING", source)
        ask(self.source, "CLUSTER", "SETSLOT", self.slot, "MIGRATING", target)

    def move_keys(self, number: int) -> None:
        """Move up to `number` keys."""
        keys = ask(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, number)
        assert isinstance(keys, list)
        if keys:
            ask(self.source, "MIGRATE", "127.0.0.1", self.target.port, "", 0, 5_000, "KEYS", *keys)

    def end(self) -> None:
        """Let the target own the slot."""
        target = ask(self.target, "CLUSTER", "MYID")
        for node in (self.target, self.source, *self.nodes):
            ask(node, "CLUSTER", "SETSLOT", self.slot, "NODE", target)


async def test_a_queue_that_was_moved_is_found(cluster: ValkeyCluster, rig: Rig) -> None:
    tasks = [await rig.pushed() for _ in range(5)]
    lease = await rig.lease()
    move = Move(cluster, "q")
    move.begin()
    move.move_keys(1_000)
    move.end()
    assert await rig.settle(lease, ok())
    assert await rig.waiting_ids() == ids(tasks[1:])
    await rig.pushed()
    assert await rig.is_healthy()


@pytest.mark.parametrize(
    "settings",
    [
        {"cluster-preferred-endpoint-type": "unknown-endpoint"},
        {"bind": "127.0.0.1 ::1", "cluster-announce-ip": "::1"},
    ],
    ids=["no host", "IPv6"],
)
async def test_nodes_are_found_by_what_they_say_of_each_other(settings: dict[str, str]) -> None:
    """Behind a load balancer nodes name only their ports: the host is the one that was asked."""
    if "bind" in settings and not _has_ipv6():
        pytest.skip("this machine has no IPv6 address ::1")
    with ValkeyCluster(settings=settings) as cluster:
        host, port = cluster.addresses[0]
        async with rig_on(f"redis+cluster://{host}:{port}?timeout=1") as rig:
            tasks = [await rig.pushed() for _ in range(3)]
            lease = await rig.lease()
            move = Move(cluster, "q")
            move.begin()
            move.move_keys(1_000)
            # Said by the target: the source knows where the keys are, and the way there was found.
            with pytest.raises(BrokerUnavailable, match="moving"):
                await rig.settle(lease, ok())
            move.end()
            assert await rig.settle(lease, ok())
            assert await rig.waiting_ids() == ids(tasks[1:])
            assert await rig.is_healthy()


async def test_nothing_is_torn_while_a_queue_is_moved(cluster: ValkeyCluster, rig: Rig) -> None:
    """With half of the keys at each node no script can be right: it has to wait."""
    tasks = [await rig.pushed() for _ in range(5)]
    lease = await rig.lease()
    move = Move(cluster, "q")
    move.begin()
    for _ in range(2):
        for verb in (rig.settle(lease, ok()), rig.push(rig.task()), rig.state(tasks[0])):
            with pytest.raises(BrokerUnavailable, match="moving"):
                await verb
        move.move_keys(3)
    waiting = asyncio.create_task(rig.settle(lease, ok()))
    await asyncio.to_thread(move.move_keys, 1_000)
    await asyncio.to_thread(move.end)
    assert await waiting
    assert await rig.counts() == {State.SUCCEEDED: 1, State.QUEUED: 4}
    assert await rig.is_healthy()


async def test_a_node_that_comes_back_is_used_again(cluster: ValkeyCluster, rig: Rig) -> None:
    queues = [f"q{number}" for number in range(12)]
    tasks = [await rig.pushed(queue=queue) for queue in queues]
    owners = {queue: Move(cluster, queue).source for queue in queues}
    down = owners[queues[0]]
    with down.client() as client:
        client.execute_command("SAVE")
    down.stop()
    with pytest.raises(BrokerUnavailable):
        await rig.push(rig.task(queue=queues[0]))
    down.start()
    await until(lambda: _all_there(rig, len(tasks)))


async def _all_there(rig: Rig, number: int) -> bool:
    return await rig.counts() == {State.QUEUED: number}


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
