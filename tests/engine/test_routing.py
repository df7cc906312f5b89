"""Which task runs next, and where: names, keys, priorities, queues, due times."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from conveyor import Concurrency, Conveyor
from conveyor.core.errors import IdempotencyConflict
from conveyor.core.task import Pause, State
from tests.running import Stopwatch, at_work, ended, reached
from tests.worker.harness import soon


async def test_an_unknown_name_is_parked_until_a_worker_knows_it(
    app: Conveyor, broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Conveyor(broker_url) as newer:

        @newer.task(name="new.feature")
        async def feature(n: int) -> int:
            return n + 1

        @app.task
        async def known() -> str:
            return "fine"

        handle = await feature.enqueue(1)
        async with at_work(app):

            async def parked() -> bool:
                return "unroutable" in (await handle.info()).flags

            await soon(parked)
            assert await (await known.enqueue()).result(10) == "fine"
            info = await handle.info()
            assert info.state is State.QUEUED
            assert info.reason == "no live worker knows the task 'new.feature'"
            assert (info.attempts, info.executions) == (0, ())
            async with at_work(newer):
                assert await handle.result(10) == 2
        assert (await handle.info()).flags == ()
    assert "no definition is named 'new.feature' here" in caplog.text


@pytest.mark.parametrize("beside", [False, True])
async def test_parked_gated_tasks_come_back_as_their_gates_let_them(
    app: Conveyor, broker_url: str, *, beside: bool
) -> None:
    """Not one slot a second, for which no time here is long enough; nor while a worker that does
    not know them is at work."""
    async with Conveyor(broker_url) as newer:

        @newer.task(name="new.feature", concurrency=Concurrency(1))
        async def feature(n: int) -> int:
            return n

        handles = await newer.enqueue_many(feature.bind(n) for n in range(40))

        async def all_parked() -> bool:
            infos = [await handle.info() for handle in handles]
            return all("unroutable" in info.flags for info in infos)

        async with at_work(app):
            await soon(all_parked)
            if beside:
                async with at_work(newer):
                    await asyncio.gather(*(handle.result(20) for handle in handles))
        if not beside:
            async with at_work(newer):
                await asyncio.gather(*(handle.result(20) for handle in handles))


async def test_a_producer_run_as_a_script_is_understood(app: Conveyor) -> None:
    from conveyor.worker.registry import known_names

    @app.task(name="shop.tasks.send")
    async def send() -> None: ...

    names = known_names(app.definitions, "shop.tasks")
    assert set(names) == {"shop.tasks.send", "__main__.send", "tasks.send"}


async def test_the_same_key_names_the_same_task(app: Conveyor) -> None:
    runs = []

    @app.task
    async def charge(order: int) -> int:
        runs.append(order)
        return len(runs)

    keyed = charge.with_options(key="order:7")
    first, second = await keyed.enqueue(7), await keyed.enqueue(7)
    assert (first.created, second.created) == (True, False)
    assert first.id == second.id
    async with at_work(app):
        assert await second.result(10) == 1
        third = await keyed.enqueue(7)
        assert (third.id, third.created) == (first.id, False)
        assert await third.result(10) == 1
    assert runs == [7]


async def test_the_same_key_with_other_arguments_is_a_conflict(app: Conveyor) -> None:
    @app.task
    async def charge(order: int) -> None: ...

    keyed = charge.with_options(key="order:7")
    first = await keyed.enqueue(7)
    with pytest.raises(IdempotencyConflict, match="with other arguments") as conflict:
        await keyed.enqueue(8)
    assert (conflict.value.key, conflict.value.task_id) == ("order:7", first.id)


async def test_a_key_belongs_to_one_queue_and_one_name(app: Conveyor) -> None:
    @app.task
    async def one(n: int) -> None: ...

    @app.task
    async def two(n: int) -> None: ...

    handles = [
        await one.with_options(key="k").enqueue(1),
        await two.with_options(key="k").enqueue(2),
        await one.with_options(key="k", queue="other").enqueue(3),
    ]
    assert len({handle.id for handle in handles}) == 3


async def test_higher_priorities_run_first_and_equals_in_order(app: Conveyor) -> None:
    order: list[int] = []

    @app.task
    async def run(n: int) -> None:
        order.append(n)

    wanted: list[tuple[int | str, int]] = [("low", 50), (5, 30), ("critical", 10), (5, 31), (0, 60)]
    wanted += [("high", 20), (9, 11)]
    handles = [
        await run.with_options(priority=priority).enqueue(number) for priority, number in wanted
    ]
    async with at_work(app, concurrency=1):
        for handle in handles:
            await handle.result(10)
    assert order == [10, 11, 20, 30, 31, 50, 60]


async def test_no_queue_waits_behind_a_busy_one(app: Conveyor) -> None:
    order: list[str] = []

    @app.task
    async def run(queue: str) -> None:
        order.append(queue)

    await app.enqueue_many(run.with_options(queue="busy").bind("busy") for _ in range(300))
    last = await run.with_options(queue="quiet").enqueue("quiet")
    async with at_work(app, queues=(), concurrency=1):
        await last.result(10)
    assert order.index("quiet") < 250


async def test_a_worker_serves_the_queues_it_was_given_only(app: Conveyor) -> None:
    @app.task
    async def run() -> int:
        return 1

    mine = await run.with_options(queue="mine").enqueue()
    other = await run.with_options(queue="other").enqueue()
    async with at_work(app, queues=("mine",)):
        assert await mine.result(10) == 1
        again = await run.with_options(queue="mine").enqueue()
        assert await again.result(10) == 1
        assert await other.status() is State.QUEUED


async def test_a_queue_that_is_new_is_found(app: Conveyor) -> None:
    @app.task
    async def run() -> int:
        return 1

    async with at_work(app, queues=()):
        await (await run.enqueue()).result(10)
        handle = await run.with_options(queue="brand-new").enqueue()
        assert await handle.result(5) == 1


async def test_delayed_tasks_wait_and_then_run(app: Conveyor) -> None:
    @app.task
    async def run() -> float:
        return app.clock.time()

    async with at_work(app):
        now = app.clock.time()
        by_delay = await run.with_options(delay=timedelta(milliseconds=300)).enqueue()
        by_time = await run.with_options(
            at=datetime.fromtimestamp(now, UTC) + timedelta(seconds=0.3)
        ).enqueue()
        assert await by_delay.status() is State.SCHEDULED
        assert now + 0.29 <= await by_delay.result(10) <= now + 5
        assert now + 0.29 <= await by_time.result(10) <= now + 5


async def test_a_due_time_in_the_past_means_now(app: Conveyor) -> None:
    @app.task
    async def run() -> int:
        return 1

    async with at_work(app):
        handle = await run.with_options(at=datetime(2020, 1, 1, tzinfo=UTC)).enqueue()
        assert await handle.result(10) == 1


async def test_an_idle_worker_starts_a_new_task_without_waiting_for_its_poll(
    app: Conveyor,
) -> None:
    @app.task
    async def run() -> None: ...

    async with at_work(app):
        await (await run.enqueue()).result(10)
        watch = Stopwatch()
        for _ in range(10):
            await (await run.enqueue()).result(10)
        assert watch.seconds < 5, "ten polls of a second would take longer"


async def test_a_paused_queue_gives_out_nothing_until_resumed(app: Conveyor) -> None:
    @app.task
    async def run(n: int) -> int:
        return n

    broker = (await app.client()).broker
    async with at_work(app, queues=()):
        await (await run.enqueue(0)).result(10)
        await broker.pause("default", Pause("maintenance", "ada", app.clock.time()))
        handle = await run.enqueue(1)
        open_queue = await run.with_options(queue="open").enqueue(2)
        assert await open_queue.result(10) == 2
        assert await handle.status() is State.QUEUED
        (paused,) = [q for q in await broker.inspector.queues() if q.pause]
        assert (paused.name, paused.pause and paused.pause.by) == ("default", "ada")
        await broker.pause("default", None)
        assert await handle.result(10) == 1


async def test_burst_leaves_when_nothing_is_queued_any_more(app: Conveyor) -> None:
    @app.task
    async def run(n: int) -> None:
        if n:
            await run.with_options(queue=f"queue-{n}").enqueue(n - 1)

    handle = await run.enqueue(3)
    later = await run.with_options(delay=3_600).enqueue(0)
    async with at_work(app, queues=(), burst=True) as worker:
        await asyncio.wait_for(asyncio.shield(worker.done), 10)
    assert (await ended(handle)).state is State.SUCCEEDED
    assert (await reached(later, State.SCHEDULED)).state is State.SCHEDULED
    counts = await (await app.inspector()).counts()
    assert counts.get(State.SUCCEEDED) == 4
