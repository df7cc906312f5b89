"""`app.schedules`: made, edited, paused, run and previewed at run time."""

from datetime import UTC, datetime, timedelta

import pytest

from conveyor import Conveyor, CurrentTask, current_task
from conveyor.brokers.base import Broker
from conveyor.core.errors import InvalidOption, ScheduleNotFound
from conveyor.core.task import State
from conveyor.testing import harness
from conveyor.testing.clock import ManualClock
from tests.schedules.rig import Rig


@pytest.fixture
async def app(broker: Broker, clock: ManualClock) -> Conveyor:
    app = Conveyor("sqlite://", clock=clock)

    @app.task(name="greet", queue="q")
    def greet(name: str = "you") -> str:
        return f"hello {name}"

    app.attach(broker)
    return app


async def test_a_schedule_from_its_making_to_its_end(app: Conveyor, rig: Rig) -> None:
    greet = app.definition("greet")
    call = greet.with_options(priority="high").bind(name="Ada")
    info = await app.schedules.create("hello", call, every=10, overlap="skip")
    assert (info.task, info.kwargs, info.priority, info.source) == (
        "greet",
        {"name": "Ada"},
        7,
        "runtime",
    )
    assert info.next_at == rig.clock.time() + 10
    assert [one.name for one in await app.schedules.list()] == ["hello"]
    with pytest.raises(InvalidOption, match="is named 'hello' already"):
        await app.schedules.create("hello", call, every=10)
    await rig.tick()
    assert await rig.after(10) == 1
    seen = await app.schedules.get("hello")
    assert (seen.fired, seen.last_at) == (1, rig.clock.time())
    assert seen.last_task == (await rig.tasks())[0]
    await app.schedules.delete("hello")
    assert await rig.after(10) == 0
    assert len(await rig.tasks()) == 1, "what it enqueued stays"
    with pytest.raises(ScheduleNotFound):
        await app.schedules.delete("hello")


async def test_a_repeat_under_its_creation_id_makes_no_other(app: Conveyor, rig: Rig) -> None:
    greet = app.definition("greet")
    first = await app.schedules.create("hello", greet, every=10, creation_id="one")
    revision = await rig.desk._book.revision()
    assert await app.schedules.create("hello", greet, every=10, creation_id="one") == first
    assert await rig.desk._book.revision() > revision, "the first may have died before it told"
    paused = await app.schedules.pause("hello")
    assert await app.schedules.create("hello", greet, every=10, creation_id="one") == paused
    for other in ("", "another"):
        with pytest.raises(InvalidOption, match="already"):
            await app.schedules.create("hello", greet, every=10, creation_id=other)
    await app.schedules.create("plain", greet, every=10)
    with pytest.raises(InvalidOption, match="already"):
        await app.schedules.create("plain", greet, every=10)


async def test_an_edit_fires_by_the_new_timing_from_now_on(app: Conveyor, rig: Rig) -> None:
    start = rig.clock.time()
    await app.schedules.create("s", app.definition("greet"), every=10, catch_up="all")
    await rig.tick()
    rig.clock.advance(45)
    await app.schedules.edit("s", every=7, overlap="skip", queue="other", priority=1, jitter=2)
    assert await rig.tick() == 0, "what was due before the edit is not made up for"
    assert await rig.after(7) == 1
    (fired,) = await rig.fires("s", start)
    assert 45 < fired <= 52
    assert (start + fired) % 7 == 0
    info = await app.schedules.get("s")
    assert (info.every, info.overlap, info.queue, info.priority, info.jitter) == (
        7.0,
        "skip",
        "other",
        1,
        2.0,
    )
    edited = await app.schedules.edit("s", cron="0 9 * * *", tz="Europe/Berlin")
    assert (edited.every, edited.timing) == (None, "0 9 * * * Europe/Berlin")
    assert (await app.schedules.edit("s", tz="UTC")).timing == "0 9 * * * UTC"
    for wrong in (
        {"cron": "nonsense"},
        {"overlap": "maybe"},
        {"queue": "no spaces"},
        {"cron": "@daily", "every": 3},
    ):
        with pytest.raises(InvalidOption):
            await app.schedules.edit("s", **wrong)


async def test_a_pause_holds_until_it_is_ended(app: Conveyor, rig: Rig) -> None:
    await app.schedules.create("s", app.definition("greet"), every=10, catch_up="all")
    await rig.tick()
    info = await app.schedules.pause("s", reason="holidays", by="ada")
    assert info.next_at is None
    assert info.paused is not None
    assert (info.paused.reason, info.paused.by) == ("holidays", "ada")
    assert await rig.after(100) == 0
    assert (await app.schedules.resume("s")).paused is None
    assert await rig.tick() == 0
    assert await rig.after(10) == 1
    end = datetime.fromtimestamp(rig.clock.time() + 35, UTC)
    await app.schedules.pause("s", until=end)
    assert [await rig.after(10) for _ in range(5)] == [0, 0, 0, 1, 1]
    with pytest.raises(InvalidOption):
        await app.schedules.pause("s", until=end.replace(tzinfo=None))


async def test_run_now_counts_as_an_earlier_fire(app: Conveyor, rig: Rig) -> None:
    await app.schedules.create("s", app.definition("greet"), every=10, overlap="skip")
    await rig.tick()
    await app.schedules.pause("s")
    task = await app.schedules.run_now("s")
    await app.schedules.resume("s")
    (lease,) = await rig.lease()
    assert (lease.task.id, lease.task.name) == (task, "greet")
    assert lease.task.terms is not None
    assert (lease.task.terms.schedule, lease.task.terms.scheduled_for) == ("s", rig.clock.time())
    assert await rig.after(10) == 0
    await rig.finish(lease)
    assert await rig.after(10) == 1


async def test_preview_shows_both_clocks(app: Conveyor, rig: Rig) -> None:
    await app.schedules.create("s", app.definition("greet"), cron="30 9 * * *", tz="Asia/Kathmandu")
    fires = await app.schedules.preview("s", 3)
    assert [fire.local.strftime("%H:%M %z") for fire in fires] == ["09:30 +0545"] * 3
    assert [fire.at.strftime("%H:%M") for fire in fires] == ["03:45"] * 3
    assert len(app.schedules.preview_cron("*/5 * * * *", count=7)) == 7
    with pytest.raises(InvalidOption):
        app.schedules.preview_cron("*/5 * * *")


async def test_an_unknown_name_is_told_with_its_neighbours(app: Conveyor) -> None:
    await app.schedules.create("nightly", app.definition("greet"), every=60)
    with pytest.raises(ScheduleNotFound, match="did you mean nightly"):
        await app.schedules.get("nightl")
    for call in (
        app.schedules.pause,
        app.schedules.resume,
        app.schedules.run_now,
        app.schedules.preview,
    ):
        with pytest.raises(ScheduleNotFound):
            await call("nobody")


async def test_options_that_mean_one_enqueue_are_refused(app: Conveyor) -> None:
    greet = app.definition("greet")
    with pytest.raises(InvalidOption, match="mean one enqueue"):
        await app.schedules.create("s", greet.with_options(delay=3).bind(), every=60)
    with pytest.raises(InvalidOption, match="key="):
        await app.schedules.create("s", greet.with_options(key="k").bind(), every=60)


async def test_what_no_keeper_fires_is_noticed(app: Conveyor, rig: Rig) -> None:
    await app.schedules.create("s", app.definition("greet"), every=10)
    await app.schedules.create("paused", app.definition("greet"), every=10)
    await app.schedules.pause("paused")
    rig.clock.advance(65)
    assert await rig.desk.lagging() == []
    rig.clock.advance(10)
    assert await rig.desk.lagging() == ["s"]
    await rig.tick()
    assert await rig.desk.lagging() == []


def test_synchronous_code_has_the_same(sqlite_url: str) -> None:
    app = Conveyor(sqlite_url)
    greet = app.task(name="greet")(print)
    try:
        app.schedules.create_sync("s", greet, every=60)
        app.schedules.edit_sync("s", every=30)
        app.schedules.pause_sync("s", reason="a test")
        assert app.schedules.get_sync("s").paused is not None
        assert app.schedules.resume_sync("s").every == 30.0
        assert app.schedules.run_now_sync("s")
        assert [one.name for one in app.schedules.list_sync()] == ["s"]
        app.schedules.delete_sync("s")
        assert app.schedules.list_sync() == []
    finally:
        app.close_sync()


# -- in the harness


async def test_the_harness_lets_a_day_pass() -> None:
    app = Conveyor("sqlite://")
    seen: list[tuple[datetime | None, str | None, float]] = []

    @app.schedule("30 2 * * *", tz="Europe/Berlin", name="nightly")
    @app.every(timedelta(hours=6), name="quarter")
    @app.task
    def note() -> None:
        task: CurrentTask = current_task()
        assert task.scheduled_for is not None
        seen.append((task.scheduled_for, task.schedule, app.clock.time()))

    async with harness(app) as kit:
        assert await kit.fire() == 0
        counts = await kit.run_for(86_400)
        assert counts[State.SUCCEEDED] == 5
    assert sorted(name or "" for _, name, _ in seen) == ["nightly"] + ["quarter"] * 4
    for nominal, _, now in seen:
        assert nominal is not None
        assert nominal.tzinfo is UTC
        assert 0 <= now - nominal.timestamp() < 0.1
