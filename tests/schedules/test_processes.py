"""Whole processes: workers publish and fire what their app declares, keepers are killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from conveyor.brokers.base import Broker
from conveyor.brokers.url import connect
from conveyor.core.schedule import fire_id
from conveyor.schedules.desk import Desk
from conveyor.system import SystemClock
from tests.schedules.clockwork import EVERY
from tests.schedules.rig import Rig
from tests.worker.harness import ROOT, eventually, lines, running, soon

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
    pytest.mark.unmeasured,
]
TARGET = "tests.schedules.clockwork:app"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def keeping(url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `conveyor keeper` until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "conveyor", "keeper", TARGET, "--url", url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_worker_publishes_fires_and_runs_what_its_app_declares(
    sqlite_url: str, tmp_path: Path
) -> None:
    with running(tmp_path, target=TARGET, url=sqlite_url):
        seen = await soon(lambda: (found := lines(tmp_path / "ticks"))[5:] and found)
        broker = connect(sqlite_url)
        await broker.open()
        desk = Desk(broker, SystemClock())
        assert [info.name for info in await desk.list()] == ["leap day", "tick"]
        assert (await desk.get("tick")).scope == TARGET
        await desk.run_now("leap day")
        eventually(lambda: lines(tmp_path / "leaps"))
        await broker.close()
    times = [float(at) for at, _, _ in seen]
    assert times == [times[0] + n * EVERY for n in range(len(times))]
    assert times[0] % EVERY == 0
    late = [float(ran) - float(at) for at, ran, _ in seen[1:]]
    assert min(late) >= 0
    assert sorted(late)[len(late) // 2] < 1.0
    assert {name for _, _, name in seen} == {"tick"}


async def test_a_deploy_deletes_what_its_code_no_longer_declares(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = connect(sqlite_url)
    await broker.open()
    desk = Desk(broker, SystemClock())

    async def names() -> list[str]:
        return [info.name for info in await desk.list()]

    async def names_are(wanted: list[str]) -> bool:
        return await names() == wanted

    monkeypatch.setenv("ALSO", "hourly")
    with running(tmp_path, target=TARGET, url=sqlite_url) as old:
        await soon(lambda: names_are(["hourly", "leap day", "tick"]))
        monkeypatch.delenv("ALSO")
        with running(tmp_path, target=TARGET, url=sqlite_url) as new:
            await soon(lambda: names_are(["leap day", "tick"]))
            deleted = "'hourly' is not in the code of tests.schedules.clockwork:app"
            await soon(lambda: deleted in new.text)
            old.children()[0].kill()
            eventually(lambda: old.text.count("ready") == 2)
            eventually(lambda: len(old.children()) == 1)
            await soon(lambda: "newer code of" in old.text)
            assert await names() == ["leap day", "tick"]
    await broker.close()


@pytest.mark.chaos
@pytest.mark.slow
async def test_keepers_that_are_killed_fire_every_time_once(broker_url: str) -> None:
    """Three processes, one of them killed after every few fires: nothing is lost or doubled."""
    url = broker_url + ("&durability=fast" if broker_url.startswith("redis") else "")
    broker = connect(url)
    await broker.open()
    dice, killed = random.Random(1), 0
    keepers = [keeping(url) for _ in range(3)]
    processes = [keeper.__enter__() for keeper in keepers]
    try:
        rig = Rig(broker, SystemClock())  # type: ignore[arg-type]
        await soon(rig.tasks, within=30)
        first = (await rig.tasks())[0]
        while killed < 6:
            goal = len(await rig.tasks()) + dice.randint(1, 3)
            await soon(partial(more_than, rig, goal), within=20)
            at = dice.randrange(3)
            processes[at].send_signal(signal.SIGKILL)
            keepers[at].__exit__(None, None, None)
            keepers[at] = keeping(url)
            processes[at] = keepers[at].__enter__()
            killed += 1
        last = time.time() // EVERY * EVERY
        await soon(lambda: has(broker, last), within=20)
        found = Counter(await rig.tasks())
    finally:
        for keeper in keepers:
            keeper.__exit__(None, None, None)
        await broker.close()
    start = int(first.replace("-", "")[:12], 16) / 1_000
    wanted = [fire_id("tick", start + n * EVERY) for n in range(round((last - start) / EVERY) + 1)]
    assert len(wanted) >= 6
    assert set(wanted) <= set(found)
    assert max(found.values()) == 1
    stray = set(found) - set(wanted)
    assert all(int(one.replace("-", "")[:12], 16) / 1_000 > last for one in stray)


async def more_than(rig: Rig, count: int) -> bool:
    return len(await rig.tasks()) > count


async def has(broker: Broker, at: float) -> bool:
    return fire_id("tick", at) in await Rig(broker, SystemClock()).tasks()  # type: ignore[arg-type]
