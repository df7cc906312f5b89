"""A worker is stopped (SIGSTOP) past its lease and comes back: what it says is refused (D8)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from conveyor.core.errors import BrokerUnavailable
from tests.chaos.ledger import settle_accounts, started, violations
from tests.chaos.work import LOG, app, fifty
from tests.worker.harness import Worker, running, soon

TASKS = 300
pytestmark = [
    pytest.mark.unmeasured,
    pytest.mark.chaos,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
]


def stale(worker: Worker) -> int:
    """Return how many of its settlements were refused, as far as it has said so."""
    return sum(map(int, re.findall(r"(\d+) settlement\(s\) refused", worker.text)))


def resume(family: list[psutil.Process]) -> None:
    """Let those of the processes that still exist go on."""
    for process in family:
        with suppress(psutil.Error):
            process.resume()


@contextmanager
def going_on_after(family: list[psutil.Process]) -> Generator[None, None, None]:
    """See to it that the processes run again when the block ends."""
    try:
        yield
    finally:
        resume(family)


async def suspend_between_writes(family: list[psutil.Process]) -> None:
    """Stop the processes at a moment when they do not hold SQLite's only write lock: nobody could
    write before they go on, which is SQLite's nature and not what this test is about."""
    broker = (await app.client()).broker
    while True:
        for process in family:
            process.suspend()
        try:
            async with asyncio.timeout(2):
                await broker.lead("probe", "test", 0.001)
        except (TimeoutError, BrokerUnavailable):
            resume(family)
        else:
            return


@pytest.mark.slow
async def test_what_a_stopped_worker_says_later_is_refused(
    broker_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    log = tmp_path / "starts"
    monkeypatch.setenv(LOG, str(log))
    app.url = broker_url
    settings = {"target": "tests.chaos.work:app", "url": broker_url, "concurrency": 8}
    async with app:
        handles = await app.enqueue_many(fifty.bind(number) for number in range(TASKS))
        with running(tmp_path, **settings) as slow:
            await started(log, 40)
            (child,) = slow.children()
            # The supervisor first: it would see its child stop.
            family = [psutil.Process(slow.process.pid), child]
            await suspend_between_writes(family)
            # Whatever fails below, nothing stopped may stay behind: its end would wait for ever.
            with running(tmp_path, **settings) as other, going_on_after(family):
                counts = await settle_accounts(handles, log)
                # The child before its supervisor, which would end it: it must be able to speak.
                child.resume()
                await soon(lambda: stale(slow) > 0)
                family[0].resume()
                await soon(lambda: "ran out and its tasks were given away" in slow.text)
                refused = stale(slow)
                # It goes on with a new child and a new lease.
                others = [await fifty.enqueue(number) for number in range(TASKS, TASKS + 20)]
                other.signal(signal.SIGTERM)
                assert other.end() == 0
                again = await settle_accounts(others, log)
            assert await violations() == []
            slow.signal(signal.SIGTERM)
            assert slow.end() == 0
    assert (counts.ok, counts.lost) == (TASKS, 0), counts
    assert counts.unexpected == []
    assert refused > 0
    assert again.lost == 0
    counts.stale_refused = refused
    record_property("ledger", str(counts))
