"""A worker is killed at its k-th broker command, before the server sees it and after it was carried
out, for k = 1, 2, … until it lives to the end: whatever the moment, the work completes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.matrix import Round, start
from tests.faults import Act, FaultProxy
from tests.faults.rules import Command, Phase

MOST = 200
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


class Killer:
    """Kills the process at its k-th command; a hook of the fault proxy."""

    def __init__(self, k: int, phase: Phase) -> None:
        self._k = k
        self._phase = phase
        self._known = threading.Event()
        self._pid = 0
        self.struck: str | None = None

    def aim(self, pid: int | None) -> None:
        """Say whom; commands wait until it is known."""
        self._pid = pid or 0
        self._known.set()

    def __call__(self, command: Command, phase: Phase) -> Act | None:
        self._known.wait(10)
        if self.struck is not None or (command.number, phase) != (self._k, self._phase):
            return None
        self.struck = command.name
        os.kill(self._pid, signal.SIGKILL)
        return Act.RESET


@pytest.fixture(scope="module", autouse=True)
def _forkserver() -> None:
    """Start it here, where it may outlive a test; it ends with this process."""
    forkserver.ensure_running()


@pytest.fixture(params=["redis", "postgres"])
def served_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.slow
def test_it_may_die_at_any_command(
    served_url: str,
    phase: Phase,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    ledger: Counter[str] = Counter()
    with FaultProxy.before(served_url) as proxy:
        for k in range(1, MOST):
            log = tmp_path / f"{k}.log"
            killed, rescued = _round(proxy, served_url, Killer(k, phase), log)
            if killed is None:
                break
            ledger["killed"] += 1
            ledger["recovered"] += rescued
            ledger[f"at {killed}"] += 1
    assert k < MOST - 1, "the scenario never ran to its end"
    assert ledger["killed"] > 3
    record_property("ledger", f"{dict(ledger)}, lost 0, duplicated 0")


def _round(proxy: FaultProxy, url: str, killer: Killer, log: Path) -> tuple[str | None, int]:
    """Run the scenario with the killer, and again without; returns whom it struck, and how many
    tasks had to be rescued."""
    own = url
    if url.startswith("redis"):
        own = f"{url.partition('?')[0]}?namespace=m{log.stem}&durability=fast"
    else:
        asyncio.run(_emptied(url))
    a_round = Round(own, str(log))
    asyncio.run(a_round.prepare())
    proxy.restart_numbers()
    proxy.on_command = killer
    victim = start(proxy.url_for(own), a_round.token, str(log))
    killer.aim(victim.pid)
    code = _ended(victim)
    proxy.on_command = None
    rescued = 0
    if killer.struck is None:
        assert code == 0
    else:
        assert code == -signal.SIGKILL
        rescued = asyncio.run(a_round.rescue())
        assert _ended(start(own, a_round.token, str(log))) == 0
    where = f"killed at command {killer._k} ({killer.struck})"
    assert asyncio.run(a_round.verdict()) == [], where
    starts = Counter(log.read_text().splitlines())
    assert max(starts.values()) == 1, f"{where}: an execution number was given out twice"
    return killer.struck, rescued


def _ended(process: BaseProcess) -> int | None:
    """Wait for the process, at most half a minute; return its exit code."""
    process.join(30)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    return code


async def _emptied(url: str) -> None:
    """Discard what the round before left: a database of its own for each would take longer."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'conveyor' AND tablename <> 'meta'"
        )
        names = ", ".join(f'conveyor."{row[0]}"' for row in tables)
        await connection.execute(f"TRUNCATE {names} CASCADE")
    finally:
        await connection.close()
