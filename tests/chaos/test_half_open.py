"""Connections that are open and dead: no worker stays deaf, and nothing is lost (C6)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.ledger import settle_accounts, started, starts, violations
from tests.chaos.work import LOG, app, fifty
from tests.faults import FaultProxy
from tests.running import Stopwatch
from tests.worker.harness import Worker, running, soon

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]
RESUMED = 10.0
"""Seconds: five for the reconnection (D22), and as many for a busy machine."""


@pytest.fixture(params=["redis", "postgres"])
def served_url(request: pytest.FixtureRequest) -> str:
    """With two seconds instead of PostgreSQL's ten for a call, to make the outages short."""
    url = str(request.getfixturevalue(f"{request.param}_url"))
    return f"{url}{'&' if '?' in url else '?'}timeout=2"


@pytest.mark.parametrize("fault", ["half_open", "half_open_back", "blackhole", "reset"])
async def test_the_worker_hears_again_when_the_network_is_back(
    served_url: str,
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    log = tmp_path / "starts"
    monkeypatch.setenv(LOG, str(log))
    app.url = served_url
    with FaultProxy.before(served_url) as proxy:
        url = proxy.url_for(served_url)
        settings = {"target": "tests.chaos.work:app", "url": url, "concurrency": 8}
        async with app:
            handles = await app.enqueue_many(fifty.bind(number) for number in range(100))
            # The lease outlives the outage: what is told here is the worker's own recovery.
            with running(tmp_path, lease=15.0, renew_every=1.0, **settings) as worker:
                await started(log, 30)
                strike(proxy, fault)
                await soon(lambda: noticed(proxy, worker, fault), within=20)
                seen = len(starts(log))
                proxy.heal()
                watch = Stopwatch()
                if fault != "reset":
                    await started(log, min(100, seen + 8))
                late = await app.enqueue_many(fifty.bind(number) for number in range(100, 120))
                counts = await settle_accounts(handles, log)
                for number, handle in enumerate(late, start=100):
                    assert await handle.result(30) == number
                resumed = watch.seconds
                await soon(lambda: proxy.connections > 0)
                assert await violations() == []
    assert (counts.ok, counts.lost, counts.unexpected) == (100, 0, []), counts
    assert resumed < RESUMED
    record_property("ledger", f"{counts}, all done {resumed:.1f} s after the network was back")


def noticed(proxy: FaultProxy, worker: Worker, fault: str) -> bool:
    """Whether the worker knows: of a reset it says nothing, it only connects again."""
    if fault == "reset":
        return proxy.connections > 0
    return "the broker failed a step" in worker.text


def strike(proxy: FaultProxy, fault: str) -> None:
    match fault:
        case "half_open":
            proxy.half_open()
        case "half_open_back":
            proxy.half_open("to_client")
        case "blackhole":
            proxy.blackhole()
        case _:
            proxy.reset()


async def test_an_idle_worker_is_not_deaf_afterwards(
    served_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its doorbell may be dead without a word: the poll finds the work, the bell is rung anew."""
    log = tmp_path / "starts"
    monkeypatch.setenv(LOG, str(log))
    app.url = served_url
    with FaultProxy.before(served_url) as proxy:
        url = proxy.url_for(served_url)
        settings = {"target": "tests.chaos.work:app", "url": url, "concurrency": 8}
        async with app:
            with running(tmp_path, lease=15.0, renew_every=1.0, **settings) as worker:
                assert await (await fifty.enqueue(0)).result(30) == 0
                proxy.half_open()
                await soon(lambda: "the broker failed a step" in worker.text, within=20)
                proxy.heal()
                watch = Stopwatch()
                assert await (await fifty.enqueue(1)).result(30) == 1
                assert watch.seconds < RESUMED
                watch = Stopwatch()
                for number in range(5):
                    assert await (await fifty.enqueue(number)).result(30) == number
                assert watch.seconds < RESUMED
