"""Keepers fire schedules: once, on time, through deaths and jumps of clocks (D16-D18, D25)."""

import asyncio
from typing import Any, cast

import pytest

from conveyor.brokers.base import Broker
from conveyor.core.errors import BrokerUnavailable
from conveyor.core.schedule import UNSURE_AFTER, fire_id
from conveyor.core.task import State
from conveyor.keeper.ticker import LEADERSHIP, Ticker
from tests.schedules.rig import Rig


async def test_a_store_without_schedules_costs_a_keeper_no_lease(rig: Rig) -> None:
    assert await rig.tick() == 0
    assert not rig.ticker.leading


async def test_fires_at_the_nominal_time_with_the_task_that_was_said(rig: Rig) -> None:
    start = rig.clock.time()
    await rig.create("s", every=10.0)
    assert await rig.tick() == 0
    assert await rig.after(9.9) == 0
    assert await rig.after(0.1) == 1
    (task,) = await rig.tasks()
    assert task == fire_id("s", start + 10)
    (lease,) = await rig.lease()
    assert (lease.task.name, lease.task.payload) == ("work", b"\x92\x90\x80")
    assert lease.task.terms is not None
    assert (lease.task.terms.scheduled_for, lease.task.terms.schedule) == (start + 10, "s")


async def test_wants_to_tick_at_the_next_fire_and_at_least_each_second(rig: Rig) -> None:
    await rig.create("s", every=10.0)
    rig.clock.advance(9.6)
    assert await rig.ticker.tick() == pytest.approx(0.4, abs=0.01)
    rig.clock.advance(0.4)
    assert await rig.ticker.tick() == pytest.approx(1.0, abs=0.01)


async def test_many_fires_of_a_fast_schedule_go_out_in_rounds(rig: Rig) -> None:
    await rig.create("fast", every=0.1)
    await rig.tick()
    assert await rig.after(25.01) == 250
    assert len(await rig.tasks()) == 250


async def test_only_the_leader_fires_and_another_takes_over_in_seconds(rig: Rig) -> None:
    other = rig.keeper()
    await rig.create("s", every=10.0)
    assert await rig.tick() == 0
    assert await rig.tick(other) == 0
    assert (rig.ticker.leading, other.leading) == (True, False)
    rig.clock.advance(LEADERSHIP + 6)
    assert await rig.tick(other) == 1
    assert await rig.tick() == 0
    await other.resign()
    assert await rig.after(10) == 1


async def test_a_keeper_that_only_believes_to_lead_changes_nothing(rig: Rig) -> None:
    await rig.create("s", every=10.0)
    assert await rig.after(10) == 1
    stale = rig.ticker
    rig.clock.advance(0.5)  # it does not ask again within two seconds
    await rig.broker.lead("schedules", stale._holder, 0)
    other = rig.keeper()
    rig.clock.jump(9.5)
    assert await rig.tick(other) == 1
    stale._ahead += 9.5
    await stale.tick()
    assert len(await rig.tasks()) == 2


# -- death between any two calls


class Dying:
    """A broker whose keeper dies before or after one of its calls."""

    def __init__(self, inner: Any, at: int, *, after: bool, count: list[int] | None = None) -> None:
        self._inner, self._at, self._after = inner, at, after
        self.count = [0] if count is None else count

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "documents":
            return Dying(found, self._at, after=self._after, count=self.count)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.count[0] += 1
            if self.count[0] == self._at and not self._after:
                raise Killed
            answer = await found(*args, **kwargs)
            if self.count[0] == self._at:
                raise Killed
            return answer

        return call


class Killed(Exception):
    """SIGKILL, as it were."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_any_call_every_time_fires_once(rig: Rig, after: bool) -> None:
    start = rig.clock.time()
    await rig.create("a", every=10.0)
    await rig.create("b", every=10.0, overlap="skip")
    await rig.tick()
    died = 0
    for at in range(1, 14):
        await rig.ticker.resign()
        dying = Dying(rig.broker, at, after=after)
        rig.clock.advance(10)
        try:
            await rig.tick(Ticker(cast("Broker", dying), rig.clock, f"victim {at}"))
        except Killed:
            died += 1
        await rig.broker.lead("schedules", f"victim {at}", 0)
        rig.ticker = rig.keeper()
        await rig.tick()
        await rig.finish(*await rig.lease(want=100))
    assert died >= 8
    times = [10.0 * (n + 1) for n in range(13)]
    assert await rig.fires("a", start) == await rig.fires("b", start) == times
    assert len(await rig.tasks()) == 26


async def test_what_was_decided_long_ago_is_not_repeated(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    at = rig.clock.time() + 1_000
    await rig.create("s", every=1_000.0, catch_up="none")
    await rig.tick()
    victim = Ticker(cast("Broker", NoPush(rig.broker)), rig.clock, "victim")
    await rig.ticker.resign()
    rig.clock.advance(1_000)
    with pytest.raises(BrokerUnavailable):
        await rig.tick(victim)
    rig.clock.advance(UNSURE_AFTER + 1)
    await rig.tick()
    assert fire_id("s", at) not in await rig.tasks()
    assert "whether those 1 task(s) have run is unknown" in caplog.text


class NoPush:
    """A broker that takes no tasks."""

    def __init__(self, inner: Broker) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def push(self, tasks: Any) -> Any:
        raise BrokerUnavailable("gone")


async def test_an_outage_between_storing_and_pushing_loses_nothing(rig: Rig) -> None:
    start = rig.clock.time()
    await rig.create("s", every=10.0)
    await rig.tick()
    real = rig.ticker._broker
    rig.ticker._broker = cast("Broker", NoPush(rig.broker))
    rig.clock.advance(10)
    with pytest.raises(BrokerUnavailable):
        await rig.tick()
    rig.ticker._broker = real
    await rig.after(1)
    assert await rig.fires("s", start) == [10.0]


async def test_what_was_pushed_is_pending_no_longer(rig: Rig) -> None:
    await rig.create("s", every=3_600.0)
    await rig.tick()
    assert await rig.after(3_600) == 1
    shards = await rig.ticker._book.shards()
    assert [
        entry.pending != () for shard in shards.values() for entry in shard.entries.values()
    ] == [True]
    for _ in range(7):
        await rig.after(1)
    shards = await rig.ticker._book.shards()
    assert [entry.pending for shard in shards.values() for entry in shard.entries.values()] == [()]
    assert await rig.after(3_600) == 1


# -- clocks


async def test_a_clock_that_jumps_ahead_is_caught_up_with_and_back_repeats_nothing(
    rig: Rig,
) -> None:
    start = rig.clock.time()
    await rig.create("last", every=10.0)
    await rig.create("all", every=10.0, catch_up="all")
    await rig.create("none", every=10.0, catch_up="none", catch_up_window=0)
    await rig.tick()
    rig.clock.jump(505)
    await rig.after(0.1)
    assert await rig.fires("last", start) == [450.0, 460.0, 470.0, 480.0, 490.0, 500.0]
    assert await rig.fires("none", start) == [450.0, 460.0, 470.0, 480.0, 490.0, 500.0]
    assert await rig.fires("all", start) == [10.0 * n for n in range(1, 51)]
    count = len(await rig.tasks())
    rig.clock.jump(-200)
    assert await rig.after(1) == 0
    assert await rig.after(150) == 0
    assert len(await rig.tasks()) == count
    assert await rig.after(54) == 3


async def test_a_keeper_that_was_stopped_for_long_begins_anew(rig: Rig) -> None:
    start = rig.clock.time()
    await rig.create("s", every=10.0)
    await rig.tick()

    class Stopped(NoPush):
        async def push(self, tasks: Any) -> Any:
            return await self._inner.push(tasks)

    victim = rig.ticker
    store = victim._store

    async def slow(decisions: Any) -> Any:
        stored = await store(decisions)
        rig.clock.advance(LEADERSHIP + 1)  # SIGSTOP, and SIGCONT
        return stored

    victim._store = slow  # type: ignore[method-assign]
    rig.clock.advance(10)
    with pytest.raises(Exception, match="was stopped while it fired"):
        await rig.tick()
    assert await rig.tasks() == []
    victim._store = store  # type: ignore[method-assign]
    await rig.tick()
    assert await rig.fires("s", start) == [10.0]


# -- overlap, on a store


async def test_skips_while_the_one_before_has_not_ended(rig: Rig) -> None:
    await rig.create("s", every=10.0, overlap="skip")
    await rig.tick()
    assert await rig.after(10) == 1
    assert await rig.after(10) == 0
    (lease,) = await rig.lease()
    assert await rig.after(10) == 0
    await rig.finish(lease)
    assert await rig.after(10) == 1
    info = await rig.desk.get("s")
    assert (info.fired, info.skipped, info.waiting) == (2, 2, 0)


async def test_keeps_one_for_later(rig: Rig) -> None:
    await rig.create("s", every=10.0, overlap="buffer_one")
    await rig.tick()
    assert [await rig.after(10) for _ in range(3)] == [1, 0, 0]
    await rig.finish(*await rig.lease())
    assert await rig.after(0.5) == 1
    assert (await rig.desk.get("s")).waiting == 0
    await rig.finish(*await rig.lease())
    assert await rig.after(0.5) == 0


async def test_cancels_the_one_before(rig: Rig) -> None:
    start = rig.clock.time()
    await rig.create("s", every=10.0, overlap="cancel_other")
    await rig.tick()
    assert [await rig.after(10) for _ in range(2)] == [1, 0]
    assert await rig.after(0.5) == 1, "a waiting task is cancelled at once"
    assert await rig.fires("s", start) == [10.0, 20.0]
    assert (await rig.states())[State.CANCELLED] == 1


async def test_a_task_that_is_no_longer_known_has_ended(rig: Rig) -> None:
    await rig.create("s", every=86_400.0, overlap="skip")
    await rig.create("t", every=86_400.0, overlap="skip")
    await rig.tick()
    assert await rig.after(86_400) == 2
    await rig.finish(*(await rig.lease())[:1])
    rig.clock.advance(86_399)
    await rig.broker.tidy()
    rig.clock.advance(2 * 86_400 + 10)
    await rig.broker.tidy()
    assert await rig.tick() == 1
    info = await rig.desk.list()
    assert min(one.skipped for one in info) == 0
