"""Limits as a user states them, on real stores with the real engine."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from math import inf

import pytest

from conveyor import Concurrency, Conveyor, Debounce, Rate, current_task
from conveyor.core.task import State
from conveyor.errors import InvalidOption, NotInTask, NotUnique
from conveyor.limits import Unique, limit
from conveyor.system import SystemClock
from conveyor.worker.engine import Engine
from conveyor.worker.prefetch import GATED_TURNS
from tests.running import Stopwatch, at_work, ended, reached
from tests.worker.harness import soon


async def test_a_rate_is_kept_by_all_workers_together(app: Conveyor) -> None:
    starts: list[float] = []

    @app.task(rate_limit=Rate("50/s", burst=5))
    async def call(i: int) -> None:
        starts.append(time.monotonic())

    handles = await app.enqueue_many(call.bind(i) for i in range(40))
    async with at_work(app), at_work(app):
        await asyncio.gather(*(handle.result(20) for handle in handles))
    starts.sort()
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            window = starts[last] - starts[first]
            assert last - first + 1 <= 50 * window + 5 + 1e-6
    assert starts[-1] - starts[0] == pytest.approx(35 / 50, abs=0.4)


async def test_slots_are_kept_per_key(app: Conveyor) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @app.task(concurrency=Concurrency(2, key=lambda tenant, i: tenant))
    async def call(tenant: str, i: int) -> None:
        running[tenant] += 1
        most[tenant] = max(most[tenant], running[tenant])
        await asyncio.sleep(0.01)
        running[tenant] -= 1

    handles = await app.enqueue_many(call.bind(tenant, i) for i in range(10) for tenant in "ab")
    async with at_work(app, concurrency=8), at_work(app, concurrency=8):
        await asyncio.gather(*(handle.result(20) for handle in handles))
    assert most == {"a": 2, "b": 2}


async def test_a_backlog_of_one_tenant_does_not_delay_another(app: Conveyor) -> None:
    order: list[str] = []

    @app.task(fair_by=lambda tenant: tenant)
    async def work(tenant: str) -> None:
        order.append(tenant)
        # Tasks worth 20 ms are leased ahead: few of these.
        await asyncio.sleep(0.005)

    await app.enqueue_many(work.bind("big") for _ in range(300))
    async with at_work(app, concurrency=1):
        await soon(lambda: asyncio.sleep(0, len(order) > 20))
        small = await work.enqueue("small")
        before = len(order)
        await small.result(10)
        assert order.index("small") - before < 10


async def test_a_turn_comes_after_a_few_tasks_a_slot_however_short_they_are(app: Conveyor) -> None:
    order: list[str] = []
    go_on = asyncio.Event()
    go_on.set()

    @app.task(fair_by=lambda tenant: tenant)
    async def work(tenant: str) -> None:
        order.append(tenant)
        await go_on.wait()

    async with at_work(app, concurrency=2) as worker:
        engine = worker.engine
        for handle in await app.enqueue_many(work.bind("big") for _ in range(200)):
            await handle.result(20)
        # The worker knows now that they are short; these wait, so that it leases all that it may.
        go_on.clear()
        await app.enqueue_many(work.bind("big") for _ in range(500))
        await soon(lambda: asyncio.sleep(0, len(order) == 202 and is_full(engine)))
        small = await work.enqueue("small")
        go_on.set()
        await small.result(20)
    assert order.index("small") - 202 <= 2 * GATED_TURNS + 1


def is_full(engine: Engine) -> bool:
    """Whether it leases no more gated tasks."""
    return engine._prefetch.want_gated(len(engine._running), engine._waiting) == 0


async def test_a_partition_keeps_its_order_through_retries(app: Conveyor) -> None:
    order: list[tuple[str, int]] = []
    failed: set[str] = set()

    @app.task(partition_by=lambda account, i: account)
    async def book(account: str, i: int) -> None:
        order.append((account, i))
        if i == 1 and account not in failed:
            failed.add(account)
            raise ValueError("once")

    handles = await app.enqueue_many(book.bind(account, i) for i in range(4) for account in "ab")
    async with at_work(app):
        await asyncio.gather(*(handle.result(20) for handle in handles))
    for account in "ab":
        assert [i for name, i in order if name == account] == [0, 1, 1, 2, 3]


async def test_tokens_inside_a_task_come_from_the_same_bucket(app: Conveyor) -> None:
    @app.task(rate_limit=Rate("20/s", name="crm"))
    async def call() -> None: ...

    @app.task
    async def export() -> float:
        return await limit("crm").acquire(4)

    async with at_work(app):
        await (await call.enqueue()).result(10)
        watch = Stopwatch()
        waited = await (await export.enqueue()).result(10)
        assert 0.1 < waited < 0.25
        assert watch.seconds >= waited


async def test_tokens_in_a_thread(app: Conveyor) -> None:
    @app.task
    def export() -> float:
        return limit("crm", "acme", rate=Rate("100/s")).acquire_sync(11)

    async with at_work(app):
        assert (await (await export.enqueue()).result(10)) == pytest.approx(0.1, abs=0.06)


async def test_a_long_wait_is_told_by_the_progress(app: Conveyor) -> None:
    @app.task
    async def export() -> None:
        await limit("crm", "acme", rate="1/s").acquire(60)

    handle = await export.enqueue()
    async with at_work(app):

        async def says() -> bool:
            progress = (await handle.info()).progress
            return progress is not None and "limit 'crm' of 'acme'" in progress.message

        await soon(says)
        await handle.cancel()
        await reached(handle, State.CANCELLED)


async def test_a_limit_needs_a_rate_and_an_app(app: Conveyor) -> None:
    with pytest.raises(NotInTask):
        limit("crm")
    with pytest.raises(InvalidOption, match="has no rate here"):
        await limit("crm", app=app).acquire()
    with pytest.raises(InvalidOption, match="above 0"):
        await limit("crm", rate="1/s", app=app).acquire(0)


async def test_a_limit_is_asked_for_the_bucket_that_tasks_draw_from(app: Conveyor) -> None:
    @app.task(rate_limit=[Rate("20/s", name="one"), Rate("20/s", name="each", key=lambda n: n)])
    async def call(n: int) -> None: ...

    await limit("one", app=app).acquire()
    await limit("each", 7, app=app).acquire()
    with pytest.raises(InvalidOption, match="has no keys"):
        await limit("one", 7, app=app).acquire()
    with pytest.raises(InvalidOption, match="one for each key"):
        await limit("each", app=app).acquire()
    for name, key in (("", None), ("a\nb", None), ("a", "b\nc"), ("a", "x" * 257), (7, None)):
        with pytest.raises(InvalidOption):
            limit(name, key, app=app)  # type: ignore[arg-type]


async def test_the_progress_says_nothing_of_a_wait_that_is_over(app: Conveyor) -> None:
    seen: list[str] = []
    pace = limit("crm", rate=Rate("3/s"), app=app)

    @app.task
    async def export() -> None:
        current_task().progress(3, 9, "halfway")
        await asyncio.gather(*(pace.acquire() for _ in range(4)))
        note = current_task().note
        assert note is not None
        seen.extend((note.message, f"{note.done:g} of {note.total:g}"))

    async with at_work(app):
        await (await export.enqueue()).result(10)
    assert seen in (["halfway", "3 of 9"], ["", "3 of 9"])


async def test_a_task_never_shortens_a_pause(app: Conveyor) -> None:
    @app.task
    async def refused(seconds: float) -> None:
        await limit("partner").pause(seconds, reason="429")

    partner = limit("partner", app=app)
    async with at_work(app):
        for until in (60, 1):
            await (await refused.enqueue(until)).result(10)
        (info,) = await partner.info()
        assert info.state.closed_until > time.time() + 30
        await partner.pause(reason="contract", by="ada")
        await (await refused.enqueue(1)).result(10)
        (info,) = await partner.info()
        assert info.pause is not None
        assert (info.pause.by, info.state.closed_until) == ("ada", inf)
    await partner.pause(1)
    (info,) = await partner.info()
    assert info.state.closed_until < time.time() + 30


async def test_a_pause_goes_by_the_clock_of_the_broker(broker_url: str) -> None:
    """A producer whose clock is an hour behind would pause nothing at all."""

    class Behind(SystemClock):
        @staticmethod
        def time() -> float:
            return time.time() - 3_600

    async with Conveyor(broker_url) as app:
        app.clock = Behind()
        await limit("partner", app=app).pause(60)
        (info,) = await limit("partner", app=app).info()
        assert info.state.closed_until == pytest.approx(time.time() + 60, abs=10)


async def test_a_task_pauses_its_limit_for_everybody(app: Conveyor) -> None:
    runs: list[float] = []

    @app.task(rate_limit=Rate("100/s", burst=10, name="partner"))
    async def call(fails: bool) -> None:
        runs.append(time.monotonic())
        if fails:
            await limit("partner").pause(0.4, reason="429")

    async with at_work(app):
        await (await call.enqueue(True)).result(10)
        other = await call.enqueue(False)
        (reason,) = [r for r in await other.why() if r.code == "closed"]
        assert "429" in reason.text
        await other.result(10)
    assert runs[1] - runs[0] >= 0.39


async def test_a_limit_is_tuned_and_looked_at(app: Conveyor) -> None:
    @app.task(concurrency=Concurrency(1, name="printer"))
    async def call() -> None: ...

    printer = limit("printer", app=app)
    await printer.pause(reason="paper", by="ada")
    handle = await call.enqueue()
    (info,) = [i for i in await printer.info() if i.pause is not None]
    assert info.pause is not None
    assert (info.pause.reason, info.pause.by) == ("paper", "ada")
    await printer.resume()
    await printer.tune(most=5)
    async with at_work(app):
        await handle.result(10)
    assert any(i.state.most == 5 for i in await printer.info())
    await printer.tune()


async def test_a_unique_task_names_the_one_in_its_way(app: Conveyor) -> None:
    @app.task(unique="until_done")
    async def reindex(shop: int) -> int:
        return shop

    first, again, other = [await reindex.enqueue(n) for n in (7, 7, 8)]
    assert (again.id, again.created) == (first.id, False)
    assert other.created
    strict = reindex.with_options(unique=Unique(on_conflict="raise"))
    with pytest.raises(NotUnique, match=first.id):
        await strict.enqueue(7)
    async with at_work(app):
        assert await again.result(10) == 7
        assert (await reindex.enqueue(7)).created


async def test_debounce_may_run_with_the_first_arguments(app: Conveyor) -> None:
    runs: list[int] = []

    @app.task(debounce=Debounce(0.3, keep="first"))
    async def publish(price: int) -> None:
        runs.append(price)

    first, *others = [await publish.enqueue(price) for price in (1, 2, 3)]
    assert [(other.id, other.created) for other in others] == [(first.id, False)] * 2
    async with at_work(app):
        await others[-1].result(10)
    assert runs == [1]


async def test_debounce_runs_once_with_the_newest_arguments(app: Conveyor) -> None:
    runs: list[int] = []

    @app.task(debounce=Debounce(0.3, key=lambda shop, price: shop))
    async def publish(shop: int, price: int) -> None:
        runs.append(price)

    handles = [await publish.enqueue(7, price) for price in (1, 2, 3)]
    async with at_work(app):
        await handles[-1].result(10)
        assert (await ended(handles[0])).state is State.CANCELLED
    assert runs == [3]
    with pytest.raises(InvalidOption, match="debounce"):
        publish.with_options(delay=5)
    plain = app.task(name="plain")(publish.fn)
    with pytest.raises(InvalidOption, match="debounce"):
        plain.with_options(delay=5).with_options(debounce=Debounce(5))
