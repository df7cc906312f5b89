"""The fault proxy in front of real servers: every fault, and every phase of a command."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import redis

from tests.faults import Act, Command, FaultProxy, Phase, kill
from tests.servers import ValkeyServer

WORKER = """
import redis, sys
client = redis.Redis.from_url(sys.argv[1], retry=None)
for number in range(5):
    client.rpush("done", number)
"""


@pytest.fixture
def proxy(valkey: ValkeyServer, redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy.before(valkey.url) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator["redis.Redis"]:
    with connect(proxy) as client:
        yield client


def connect(proxy: FaultProxy, **options: object) -> "redis.Redis":
    settings = {"socket_timeout": 0.3, "single_connection_client": True, **options}
    client = redis.Redis.from_url(proxy.url, retry=None, **settings)
    client.ping()
    return client


def direct(valkey: ValkeyServer, key: str) -> bytes | None:
    with valkey.client() as client:
        value: bytes | None = client.get(key)
        return value


class TestFaults:
    def test_without_faults_all_passes(self, proxy: FaultProxy, client: "redis.Redis") -> None:
        assert client.set("big", b"x" * 3_000_000)
        assert client.get("big") == b"x" * 3_000_000
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(3_000):
                pipeline.incr("n")
            assert pipeline.execute() == list(range(1, 3_001))
        assert proxy.counts["INCRBY"] == 3_000

    def test_latency_delays_both_directions(self, proxy: FaultProxy, client: "redis.Redis") -> None:
        proxy.latency(0.05)
        begin = time.monotonic()
        client.ping()
        assert time.monotonic() - begin >= 0.1

    def test_refuse_and_heal_on_the_same_port(
        self, proxy: FaultProxy, client: "redis.Redis"
    ) -> None:
        port = proxy.port
        proxy.refuse()
        assert client.ping()
        with pytest.raises(redis.ConnectionError, match="refused"):
            connect(proxy)
        proxy.heal()
        assert proxy.port == port
        with connect(proxy) as other:
            assert other.ping()

    def test_reset_sends_rst_and_not_fin(self, proxy: FaultProxy) -> None:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as plain:
            plain.sendall(b"PING\r\n")
            assert plain.recv(100) == b"+PONG\r\n"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                plain.recv(100)

    def test_half_open_keeps_the_connection_and_delivers_later(
        self, proxy: FaultProxy, valkey: ValkeyServer
    ) -> None:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as plain:
            plain.sendall(b"PING\r\n")
            assert plain.recv(100) == b"+PONG\r\n"
            proxy.half_open()
            plain.sendall(b"SET late 1\r\n")
            with pytest.raises(TimeoutError):
                plain.recv(100)
            assert direct(valkey, "late") is None
            proxy.heal()
            plain.settimeout(5)
            assert plain.recv(100) == b"+OK\r\n"
            assert direct(valkey, "late") == b"1"

    def test_half_open_towards_the_client_only(
        self, proxy: FaultProxy, client: "redis.Redis", valkey: ValkeyServer
    ) -> None:
        proxy.half_open("to_client")
        with pytest.raises(redis.TimeoutError):
            client.set("arrived", 1)
        assert direct(valkey, "arrived") == b"1"

    def test_blackhole_accepts_swallows_and_resets_when_healed(
        self, proxy: FaultProxy, valkey: ValkeyServer
    ) -> None:
        proxy.blackhole()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as plain:
            plain.sendall(b"SET swallowed 1\r\n")
            with pytest.raises(TimeoutError):
                plain.recv(100)
            proxy.heal()
            plain.settimeout(5)
            with pytest.raises(ConnectionResetError):
                plain.recv(100)
        assert direct(valkey, "swallowed") is None

    @pytest.mark.parametrize(("act", "end"), [(Act.RESET, ConnectionResetError), (Act.CLOSE, None)])
    def test_cut_after_so_many_bytes(
        self, proxy: FaultProxy, act: Act, end: type[Exception] | None
    ) -> None:
        proxy.cut_after(3, "to_client", act)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as plain:
            plain.sendall(b"PING\r\n")
            assert plain.recv(100) == b"+PO"
            if end is None:
                assert plain.recv(100) == b""
            else:
                with pytest.raises(end):
                    plain.recv(100)

    def test_a_server_that_is_down_resets(self) -> None:
        with (
            FaultProxy("127.0.0.1", 1, protocol="resp") as proxy,
            # Outermost of the two: a quick reset is met by the connect itself.
            pytest.raises(ConnectionResetError),
            socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as plain,
        ):
            plain.recv(1)

    def test_a_client_that_leaves_leaves_no_connection(self, proxy: FaultProxy) -> None:
        with connect(proxy):
            proxy.wait_until(lambda p: p.connections == 1)
        proxy.wait_until(lambda p: p.connections == 0)
        assert proxy.accepted == 1


class TestCommands:
    def test_the_handshake_is_counted_and_not_numbered(
        self, proxy: FaultProxy, client: "redis.Redis"
    ) -> None:
        client.eval("return 1", 0)
        assert proxy.numbered == 1
        assert proxy.counts["PING"] == 1
        proxy.restart_numbers()
        assert (proxy.numbered, proxy.counts) == (0, {})

    def test_before_the_server_has_not_seen_it(
        self, proxy: FaultProxy, client: "redis.Redis", valkey: ValkeyServer
    ) -> None:
        rule = proxy.at(2, "before", Act.RESET)
        client.set("first", 1)
        with pytest.raises(redis.ConnectionError):
            client.set("second", 1)
        assert rule.fired.is_set()
        assert direct(valkey, "first") == b"1"
        assert direct(valkey, "second") is None

    def test_after_the_server_has_done_it(
        self, proxy: FaultProxy, client: "redis.Redis", valkey: ValkeyServer
    ) -> None:
        proxy.drop_reply(2)
        client.set("first", 1)
        with pytest.raises(redis.ConnectionError):
            client.set("second", 1)
        assert direct(valkey, "second") == b"1"

    @pytest.mark.parametrize(("phase", "expected"), [("before", 2), ("after", 3)])
    def test_in_the_middle_of_a_pipeline(
        self, proxy: FaultProxy, valkey: ValkeyServer, phase: Phase, expected: int
    ) -> None:
        # One write with all of them, so that the cut is the proxy's and not the client's.
        batch = b"".join(b"RPUSH list %d\r\n" % number for number in range(3))
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as plain:
            rule = proxy.at(3, phase, Act.CLOSE)
            plain.sendall(batch)
            received = b"".join(iter(lambda: plain.recv(100), b""))
        assert rule.fired.is_set()
        proxy.wait_until(lambda p: p.connections == 0)
        with valkey.client() as client:
            assert client.llen("list") == expected
        if phase == "after":
            assert received == b":1\r\n:2\r\n"

    @pytest.mark.parametrize("act", [Act.DROP, Act.SILENCE])
    def test_a_swallowed_reply_leaves_the_client_waiting(
        self, proxy: FaultProxy, client: "redis.Redis", act: Act
    ) -> None:
        proxy.drop_reply(1, act)
        with pytest.raises(redis.TimeoutError):
            client.incr("n")
        # The client may have hung up by now: what counts is that it was not hung up on.
        assert proxy.accepted == 1

    def test_a_hook_sees_every_command_in_both_phases(
        self, proxy: FaultProxy, client: "redis.Redis"
    ) -> None:
        seen: list[tuple[str, int, Phase, tuple[bytes, ...]]] = []

        def hook(command: Command, phase: Phase) -> None:
            seen.append((command.name, command.number, phase, command.arguments))

        proxy.on_command = hook
        client.set("a", "b")
        client.get("a")
        assert seen == [
            ("SET", 1, "before", (b"a", b"b")),
            ("SET", 1, "after", (b"a", b"b")),
            ("GET", 2, "before", (b"a",)),
            ("GET", 2, "after", (b"a",)),
        ]

    def test_what_a_hook_raises_comes_out_at_the_end(self, valkey: ValkeyServer) -> None:
        def hook(command: Command, phase: Phase) -> None:
            raise LookupError("from the hook")

        proxy = FaultProxy.before(valkey.url).start()
        proxy.on_command = hook
        with pytest.raises(redis.ConnectionError):
            connect(proxy)
        with pytest.raises(LookupError, match="from the hook"):
            proxy.stop()

    def test_waiting_in_vain_says_what_was_seen(
        self, proxy: FaultProxy, client: "redis.Redis"
    ) -> None:
        with pytest.raises(TimeoutError, match="PING"):
            proxy.wait_until(lambda p: p.numbered > 0, timeout=0.05)


class TestCrashMatrix:
    """What the proxy is for: a process killed at each of its commands, before and after."""

    @pytest.mark.parametrize("number", range(1, 6))
    @pytest.mark.parametrize("phase", ["before", "after"])
    def test_a_process_is_killed_at_its_kth_command(
        self, proxy: FaultProxy, valkey: ValkeyServer, phase: Phase, number: int
    ) -> None:
        pids: list[int] = []

        def kill_it(command: Command) -> Act:
            return kill(pids[0])(command)

        rule = proxy.at(number, phase, kill_it)
        command = [sys.executable, "-c", WORKER, proxy.url]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            pids.append(process.pid)
            process.wait(30)
        assert rule.fired.is_set()
        assert process.returncode == -9
        with valkey.client() as client:
            assert client.llen("done") == (number - 1 if phase == "before" else number)
