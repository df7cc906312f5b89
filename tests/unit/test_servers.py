"""The test servers themselves, on real binaries."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import (
    PostgresServer,
    SentinelSet,
    ServerFailed,
    ServerMissing,
    ValkeyCluster,
    ValkeyServer,
    binaries,
    folders,
)
from tests.servers.ports import free_port
from tests.servers.process import User, wait_until_gone

ROOT = Path(__file__).parents[2]


@pytest.fixture
def forgotten_binaries() -> Iterator[None]:
    """Searches for binaries anew, before and after."""
    caches = (binaries.redis_server, binaries.postgres_bindir)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.redis
class TestValkey:
    def test_what_was_acknowledged_survives_sigkill_with_aof_always(self) -> None:
        with ValkeyServer(aof="always") as server:
            url, pid = server.url, server.pid
            with server.client() as client:
                client.set("kept", "yes")
            server.kill()
            assert not server.running
            server.restart()
            assert server.url == url
            assert server.pid != pid
            with server.client() as client:
                assert client.get("kept") == b"yes"
                assert client.config_get("appendfsync")["appendfsync"] == "always"
                assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"

    def test_without_aof_a_restart_is_empty(self) -> None:
        with ValkeyServer() as server:
            with server.client() as client:
                client.set("kept", "no")
            server.restart()
            with server.client() as client:
                assert client.get("kept") is None

    def test_a_paused_server_answers_after_resume(self) -> None:
        with ValkeyServer() as server, server.client(socket_timeout=0.2, retry=None) as client:
            client.ping()
            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            server.resume()
            assert client.ping()

    def test_the_password_is_in_the_url_and_nowhere_public(self) -> None:
        with ValkeyServer(password="hunter2") as server:
            with server.client() as client:
                assert client.ping()
            with (
                redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
                pytest.raises(redis.AuthenticationError),
            ):
                stranger.ping()
            assert "hunter2" not in " ".join(server._command())

    def test_a_lost_race_for_a_port_is_won_with_another(
        self, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ports = iter([valkey.port, valkey.port])

        def taken_at_first(*, bus: bool) -> int:
            return next(ports, None) or free_port(bus=bus)

        monkeypatch.setattr("tests.servers.base.free_port", taken_at_first)
        with ValkeyServer() as server:
            assert server.port != valkey.port
            assert server.pid != valkey.pid

    def test_a_server_that_does_not_start_shows_its_log(self) -> None:
        with pytest.raises(ServerFailed, match="no-such-setting"):
            ValkeyServer(settings={"no-such-setting": "1"}).__enter__()

    def test_close_removes_the_folder(self) -> None:
        with ValkeyServer() as server:
            assert server.socket_path.is_socket()
        assert not server.directory.exists()

    def test_fixture_gives_every_test_a_namespace(self, redis_url: str) -> None:
        assert "?namespace=t" in redis_url


def accepts(node: ValkeyServer, key: str) -> bool:
    with node.client() as client:
        try:
            return bool(client.set(key, "value"))
        except redis.exceptions.MovedError:
            return False


@pytest.mark.redis
class TestTopologies:
    def test_cluster_serves_every_key_on_exactly_one_node(self) -> None:
        with ValkeyCluster() as cluster:
            owners = [
                [node.port for node in cluster.nodes if accepts(node, f"key{number}")]
                for number in range(30)
            ]
            assert {len(ports) for ports in owners} == {1}
            assert {ports[0] for ports in owners} == {port for _, port in cluster.addresses}

    def test_sentinels_replace_a_killed_primary(self) -> None:
        with SentinelSet(sentinels=3, down_after=0.5) as group:
            assert group.primary_address() == ("127.0.0.1", group.primary.port)
            with group.primary.client() as client:
                client.set("kept", "yes")
                assert client.wait(1, 5000) == 1
            group.primary.kill()
            host, port = group.wait_for_failover()
            assert port == group.replicas[0].port
            with redis.Redis(host=host, port=port) as client:
                assert client.get("kept") == b"yes"


@pytest.mark.postgres
class TestPostgres:
    def test_committed_rows_survive_sigkill_and_an_orderly_restart(self) -> None:
        with PostgresServer(fsync=True) as server:
            url, pid = server.create_database(), server.pid
            server.execute("CREATE TABLE t AS SELECT 1 AS n", url=url)
            server.kill()
            server.start()
            assert server.pid != pid
            assert server.fetch("SELECT n FROM t", url=url) == [(1,)]
            server.restart()
            assert server.fetch("SELECT n FROM t", url=url) == [(1,)]
            settings = "SELECT name, setting FROM pg_settings WHERE name IN ({})".format(
                "'fsync', 'synchronous_commit', 'max_connections'"
            )
            assert dict(server.fetch(settings)) == {
                "fsync": "on",
                "synchronous_commit": "on",
                "max_connections": "300",
            }

    def test_every_clone_of_a_template_is_its_own(self, postgres: PostgresServer) -> None:
        prepared = []

        def prepare(url: str) -> None:
            prepared.append(url)
            postgres.execute("CREATE TABLE t (n int)", url=url)

        names = {postgres.template("with_table", prepare) for _ in range(2)}
        assert names == {"with_table"}
        assert len(prepared) == 1
        first, second = (postgres.create_database(template="with_table") for _ in range(2))
        postgres.execute("INSERT INTO t VALUES (1)", url=first)
        assert postgres.fetch("SELECT n FROM t", url=first) == [(1,)]
        assert postgres.fetch("SELECT n FROM t", url=second) == []
        for url in (first, second):
            postgres.drop_database(url)

    async def test_drop_ends_sessions_and_works_inside_a_running_loop(
        self, postgres: PostgresServer
    ) -> None:
        url = postgres.create_database()
        connection = await asyncpg.connect(url)
        postgres.drop_database(url)
        with pytest.raises((asyncpg.PostgresError, ConnectionError, asyncpg.InterfaceError)):
            await connection.fetch("SELECT 1")
        await connection.close()

    async def test_a_paused_server_keeps_its_connections(self) -> None:
        with PostgresServer() as server:
            connection = await asyncpg.connect(server.url)
            server.pause()
            query = asyncio.ensure_future(connection.fetchval("SELECT 1"))
            done, _ = await asyncio.wait([query], timeout=0.2)
            assert not done
            server.resume()
            assert await query == 1
            await connection.close()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")
    def test_root_without_user_namespaces_runs_it_as_nobody(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nobody = 65534
        monkeypatch.setattr("tests.servers.postgres.not_root", lambda: User(uid=nobody))
        with PostgresServer() as server:
            assert psutil.Process(server.pid).uids().real == nobody
            assert server.fetch("SELECT 1") == [(1,)]
            server.kill()
            server.restart()
            assert server.fetch("SELECT 1") == [(1,)]

    async def test_fixture_gives_an_empty_database(self, postgres_url: str) -> None:
        connection = await asyncpg.connect(postgres_url)
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert await connection.fetchval(tables) == 0
        await connection.close()


@pytest.mark.usefixtures("forgotten_binaries")
class TestBinaries:
    def test_a_named_redis_server_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wheel = binaries.redis_server()
        binaries.redis_server.cache_clear()
        monkeypatch.setenv("CONVEYOR_TEST_REDIS_SERVER", str(wheel))
        assert binaries.redis_server() == wheel

    def test_a_named_server_that_does_not_run_is_not_replaced(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONVEYOR_TEST_REDIS_SERVER", "/nonexistent/valkey-server")
        with pytest.raises(ServerMissing, match="CONVEYOR_TEST_REDIS_SERVER=/nonexistent"):
            binaries.redis_server()
        monkeypatch.setenv("CONVEYOR_TEST_PG_BINDIR", "/nonexistent")
        with pytest.raises(ServerMissing, match="CONVEYOR_TEST_PG_BINDIR=/nonexistent"):
            binaries.postgres_bindir()

    def test_a_pg_config_without_a_server_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pg_config = tmp_path / "pg_config"
        pg_config.write_text(f"#!/bin/sh\necho {tmp_path}\n")
        pg_config.chmod(0o755)
        stub = tmp_path / "postgres"
        stub.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.1'\n")
        stub.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert binaries.postgres_bindir() != tmp_path

    @pytest.mark.parametrize("ci", ["", "true"])
    def test_a_missing_server_skips_here_and_fails_in_ci(
        self, ci: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tests import conftest

        monkeypatch.setenv("CI", ci)
        expected = pytest.fail.Exception if ci else pytest.skip.Exception
        with (
            pytest.raises(expected, match="MISSING SERVER: gone"),
            conftest.skip_without_server(),
        ):
            raise ServerMissing("gone")


def test_broker_url_is_a_fresh_store_of_each_kind(
    broker_url: str, request: pytest.FixtureRequest
) -> None:
    store = request.node.callspec.id
    assert broker_url.partition(":")[0] == {"postgres": "postgresql"}.get(store, store)
    assert request.node.get_closest_marker(store) is not None


@pytest.mark.usefixtures("valkey")
class TestCommandLine:
    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.servers", *arguments, "--print-url"]
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def test_runs_until_standard_input_is_closed(self) -> None:
        with self.start("valkey") as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with redis.Redis.from_url(url) as client:
                assert client.ping()
            process.communicate()
        assert process.returncode == 0
        with (
            redis.Redis.from_url(url, retry=None) as client,
            pytest.raises(redis.ConnectionError),
        ):
            client.ping()

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a parent's death")
    def test_a_killed_starter_leaves_no_server_behind(self) -> None:
        with self.start("valkey") as process:
            assert process.stdout is not None
            with redis.Redis.from_url(process.stdout.readline().strip()) as client:
                server = int(client.info("server")["process_id"])
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert wait_until_gone(server, 10)


class TestFolders:
    def test_what_a_killed_run_left_is_swept_and_nothing_else(self, tmp_path: Path) -> None:
        names = ("abandoned", "young", "owned", "foreign")
        abandoned, young, owned, foreign = (tmp_path / f"{folders.PREFIX}{name}" for name in names)
        for folder in (abandoned, young, owned, foreign):
            folder.mkdir()
        for folder in (abandoned, young, owned):
            (folder / ".lock").touch()
        for folder in (abandoned, owned, foreign):
            os.utime(folder, (0, 0))
        with (owned / ".lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folders.sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([young, owned, foreign])
