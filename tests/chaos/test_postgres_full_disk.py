"""A disk that is really full (D23): refused whole, and everything goes on when there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conveyor.brokers.url import connect
from conveyor.core.errors import BrokerFull
from conveyor.core.task import State, Task
from conveyor.testing.conformance.rig import Capabilities, Rig, ok
from tests.chaos.test_postgres_faults import migrated
from tests.servers import PostgresServer

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]
SMALL, LARGE = "60m", "200m"
BATCH = 20


def mount(disk: Path, *arguments: str) -> bool:
    """Mount a file system in memory; say whether that was allowed."""
    command = ["mount", *arguments, str(disk)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("SKIPPED FOR LACK OF RIGHTS: only root may mount the small disk of this test")
    disk = Path(f"/tmp/conveyor-disk-{os.getpid()}")
    disk.mkdir()
    disk.chmod(0o755)
    if not mount(disk, "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs"):
        disk.rmdir()
        pytest.skip("SKIPPED FOR LACK OF RIGHTS: this root may not mount (a container?)")
    disk.chmod(0o777)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    disk.rmdir()


async def test_a_full_disk_refuses_whole_calls_and_loses_nothing(disk: Path) -> None:
    with PostgresServer() as server:
        # Only the tables: a server without room for its WAL stops, which is another test's outage.
        owner = server.data.stat()
        os.chown(disk, owner.st_uid, owner.st_gid)
        server.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        server.execute("CREATE DATABASE jobs TEMPLATE template0 TABLESPACE small")
        url = await migrated(server.url_of_database("jobs"))
        rig = Rig(lambda _: connect(url), Capabilities())
        await rig.start()
        try:
            stored = await filled(rig)
            assert await rig.counts() == {State.QUEUED: stored}
            assert await rig.is_healthy()
            assert mount(disk, "-o", f"remount,size={LARGE}")
            await rig.push(*fat(rig))
            assert await rig.counts() == {State.QUEUED: stored + BATCH}
            assert await rig.settle(await rig.lease(), ok())
            assert await rig.is_healthy()
        finally:
            await rig.stop()


async def filled(rig: Rig) -> int:
    """Push until there is no room; return how many tasks were confirmed."""
    for pushed in range(1_000):
        try:
            await rig.push(*fat(rig))
        except BrokerFull:
            return pushed * BATCH
    raise AssertionError("the disk is not small")


def fat(rig: Rig) -> list[Task]:
    """Make tasks that fill a disk soon: random, so that nothing is compressed."""
    return [rig.task(args=[os.urandom(90_000).hex()]) for _ in range(BATCH)]
