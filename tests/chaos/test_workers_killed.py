"""Workers die by SIGKILL in the middle of their work: everything completes, nothing twice over."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.ledger import children, end, settle_accounts, start_worker, started, violations
from tests.chaos.work import app, fifty

TASKS = 300
pytestmark = [pytest.mark.unmeasured, pytest.mark.chaos, pytest.mark.timeout(180)]


async def test_children_killed_at_random(
    broker_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """D5: a killed child's tasks run again at once, and nothing is lost or accepted twice."""
    log, dice = tmp_path / "starts", random.Random(1)
    app.url = broker_url
    async with app:
        handles = await app.enqueue_many(fifty.bind(number) for number in range(TASKS))
        worker = start_worker(broker_url, log, "--processes", "2")
        try:
            for kill in range(1, 4):
                await started(log, kill * 40)
                with suppress(ProcessLookupError, IndexError):
                    os.kill(dice.choice(children(worker)), signal.SIGKILL)
            counts = await settle_accounts(handles, log)
            assert await violations() == []
        finally:
            code = end(worker)
    record_property("ledger", str(counts))
    assert (counts.ok, counts.lost, counts.unexpected, code) == (TASKS, 0, [], 0), counts


@pytest.mark.slow
async def test_a_whole_worker_killed(
    broker_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """D6: the tasks of a silent worker are rescued by another one's keeper within 17 s."""
    log = tmp_path / "starts"
    app.url = broker_url
    async with app:
        handles = await app.enqueue_many(fifty.bind(number) for number in range(TASKS))
        victim = start_worker(broker_url, log)
        await started(log, 60)
        victim.kill()
        victim.wait()
        survivor = start_worker(broker_url, log)
        try:
            counts = await settle_accounts(handles, log)
            assert await violations() == []
        finally:
            code = end(survivor)
    record_property("ledger", str(counts))
    assert (counts.ok, counts.lost, counts.unexpected, code) == (TASKS, 0, [], 0), counts
