"""Schedules in code: what decorators accept, and what a deploy publishes and deletes."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.brokers.base import Broker
from conveyor.core.errors import InvalidArguments, InvalidOption, NotSerialisable
from conveyor.schedules.book import DEPLOY, Book
from conveyor.schedules.deploys import publish
from conveyor.testing.clock import ManualClock
from tests.schedules.rig import Rig, made

SHOP = "shop:app"


def an_app() -> Conveyor:
    return Conveyor("sqlite://", clock=ManualClock())


# -- decorators


def test_a_task_may_have_several_schedules_and_stays_what_it_is() -> None:
    app = an_app()

    @app.schedule("0 9 * * MON-FRI", tz="Europe/Berlin", overlap="skip", catch_up="last", jitter=0)
    @app.every(timedelta(minutes=1), name="minutely", kwargs={"to": "ops"})
    @app.schedule("@daily", args=["all"], catch_up="none")
    @app.task(queue="reports", priority="high")
    async def report(to: str = "boss") -> None: ...

    assert app.definitions[report.name] is report
    first, second, third = app.declared.values()
    assert [one.name for one in app.declared.values()] == [
        report.name, "minutely", f"{report.name}#2",
    ]  # fmt: skip
    assert (first.timing.cron, first.catch_up) == ("@daily", "none")
    assert second.timing.every == 60.0
    assert (third.timing.tz, third.overlap, third.jitter) == ("Europe/Berlin", "skip", 0.0)
    assert {one.task.name for one in app.declared.values()} == {report.name}
    assert (first.task.queue, first.task.priority, first.task.id) == ("reports", 7, "")


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"overlap": "maybe"}, InvalidOption, "overlap='maybe'"),
        ({"catch_up": "first"}, InvalidOption, "catch_up='first'"),
        ({"catch_up_window": -1}, InvalidOption, "catch_up_window=-1"),
        ({"jitter": 100_000}, InvalidOption, "at most a day"),
        ({"name": ""}, InvalidOption, "name=''"),
        ({"overlaps": "skip"}, InvalidOption, "no option 'overlaps'; there are args, catch_up"),
        ({"name": "a\nb"}, InvalidOption, "printable"),
        ({"args": [1, 2]}, InvalidArguments, "report"),
        ({"kwargs": {"who": 1}}, InvalidArguments, "who"),
        ({"args": [object()]}, NotSerialisable, "object"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(
    options: dict[str, Any], error: type[Exception], part: str
) -> None:
    app = an_app()

    def report(to: Any = "boss") -> None: ...

    with pytest.raises(error, match=part):
        app.every(60, **options)(app.task(report))


def test_a_schedule_below_the_task_is_refused() -> None:
    app = an_app()
    with pytest.raises(InvalidOption, match=r"above @app\.task"):

        @app.task  # type: ignore[type-var]
        @app.every(60)
        def report() -> None: ...


def test_two_tasks_may_not_share_the_name_of_a_schedule() -> None:
    app = an_app()
    app.every(60, name="x")(app.task(name="a")(print))
    app.every(30, name="x")(app.task(name="a")(print))  # the module was imported twice
    with pytest.raises(InvalidOption, match="two schedules are named 'x'"):
        app.every(60, name="x")(app.task(name="b")(print))


# -- deploys


class Deploys:
    """Publishes versions of an app's schedules on one store."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def __call__(
        self, *names: str, born: float = 0.0, every: float = 10.0, scope: str = SHOP
    ) -> bool:
        declared = [made(name, every=every) for name in names]
        now = self.rig.clock.time()
        return await publish(self.rig.broker, declared, scope=scope, born=born, now=now)

    async def names(self) -> list[str]:
        return [info.name for info in await self.rig.desk.list()]


@pytest.fixture
def deploy(rig: Rig) -> Deploys:
    return Deploys(rig)


async def test_an_app_without_schedules_writes_nothing(rig: Rig, deploy: Deploys) -> None:
    assert await deploy()
    assert await rig.broker.documents.list(DEPLOY) == []
    assert await Book(rig.broker.documents).revision() == 0


async def test_what_is_declared_fires(rig: Rig, deploy: Deploys) -> None:
    assert await deploy("a", "b")
    await rig.tick()
    assert await rig.after(10) == 2
    info = await rig.desk.get("a")
    assert (info.source, info.scope) == ("code", SHOP)


async def test_publishing_again_changes_nothing(rig: Rig, deploy: Deploys) -> None:
    await deploy("a", born=1)
    before = await Book(rig.broker.documents).get("a")
    rig.clock.advance(5)
    assert await deploy("a", born=2)
    assert await deploy("a", born=0)
    assert await Book(rig.broker.documents).get("a") == before


async def test_what_is_gone_from_the_code_is_deleted_with_a_warning(
    rig: Rig, deploy: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.create("by hand")
    await deploy("theirs", scope="billing:app")
    await deploy("a", "b", born=1)
    assert await deploy("b", born=2)
    assert await deploy.names() == ["b", "by hand", "theirs"]
    assert "schedule 'a' is not in the code of shop:app any more: deleted" in caplog.text
    assert await deploy(born=3)
    assert await deploy.names() == ["by hand", "theirs"]


async def test_a_leftover_of_the_deploy_changes_nothing(rig: Rig, deploy: Deploys) -> None:
    await deploy("old", born=1)
    assert await deploy("new", born=2)
    assert not await deploy("old", born=1), "a child of the old worker starts anew"
    assert await deploy.names() == ["new"]


async def test_a_rollback_counts(rig: Rig, deploy: Deploys) -> None:
    await deploy("old", born=1)
    await deploy("new", born=2)
    assert await deploy("old", born=3)
    assert await deploy.names() == ["old"]
    assert not await deploy("new", born=2)


async def test_new_code_counts_whenever_its_worker_started(rig: Rig, deploy: Deploys) -> None:
    await deploy("old", born=5)
    assert await deploy("new", born=5), "files were replaced under a running worker"
    assert await deploy.names() == ["new"]


async def test_changes_by_hand_stay_until_the_code_says_something_new(
    rig: Rig, deploy: Deploys
) -> None:
    await deploy("a", "b", born=1)
    await rig.desk.edit("a", every=30)
    await rig.desk.pause("b", reason="holidays")
    await deploy("a", "b", "c", born=2)
    assert (await rig.desk.get("a")).every == 30.0
    assert (await rig.desk.get("b")).paused is not None
    rig.clock.advance(1_000)
    await deploy("a", "b", "c", every=20.0, born=3)
    a, b = await rig.desk.get("a"), await rig.desk.get("b")
    assert (a.every, b.every) == (20.0, 20.0)
    assert b.paused is not None
    assert a.edited_at == rig.clock.time()
    assert await rig.tick() == 0, "nothing is caught up across the change"


async def test_a_name_that_moves_between_apps_says_so(
    rig: Rig, deploy: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    await deploy("a", scope="old:app")
    await deploy("a", scope="new:app")
    assert "was declared by old:app; now new:app declares it" in caplog.text
    await deploy("other", scope="old:app", born=9)
    assert await deploy.names() == ["a", "other"]
    await rig.create("b")
    await deploy("b", scope="new:app")
    assert "was made at run time" in caplog.text
    assert await deploy.names() == ["b", "other"]


async def test_many_workers_that_start_at_once_agree(
    rig: Rig, deploy: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    names = [f"s{n}" for n in range(10)]
    await asyncio.gather(
        *(deploy(*names, born=float(n)) for n in range(4)),
        *(deploy(*names[5:], "new", born=float(n)) for n in range(10, 14)),
    )
    await deploy(*names[5:], "new", born=20)
    assert await deploy.names() == sorted([*names[5:], "new"])


class Killed(Exception):
    """SIGKILL, as it were."""


async def test_a_publisher_that_is_killed_is_finished_by_the_next(rig: Rig) -> None:
    declared = [made(f"s{n}") for n in range(4)]
    await publish(rig.broker, [made("gone")], scope=SHOP, born=0, now=rig.clock.time())
    for at in range(1, 40):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(at, rig.broker, patch)
            try:
                await publish(rig.broker, declared, scope=SHOP, born=1, now=rig.clock.time())
            except Killed:
                continue
            break
    assert [info.name for info in await rig.desk.list()] == ["s0", "s1", "s2", "s3"]
    assert await Book(rig.broker.documents).revision() >= 2


def kill_at(at: int, broker: Broker, patch: pytest.MonkeyPatch) -> None:
    """Let the `at`-th change of a document be the last thing that happens."""
    documents, calls = broker.documents, 0
    put = documents.put

    async def dying(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        answer = await put(*args)
        if calls == at:
            raise Killed
        return answer

    patch.setattr(type(documents), "put", lambda _, *args: dying(*args))


async def test_what_cannot_be_read_is_told_and_stops_nothing_else(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.broker.documents.put("schedule", "broken", b"\xc1", 0)
    await rig.create("fine")
    await rig.tick()
    assert await rig.after(10) == 1
    assert "schedule 'broken' cannot be read" in caplog.text
