"""Many keepers, killed over a change of clocks, and many schedules that are due at once."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from conveyor.brokers.base import Broker
from conveyor.brokers.url import connect
from conveyor.core.errors import BrokerError
from conveyor.core.schedule import Entry, fire_id
from conveyor.core.timing import timing
from conveyor.keeper.ticker import Ticker
from conveyor.schedules.book import FIRES, Book, encode, shard_of
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock
from tests.schedules.rig import Rig, made

AUTUMN = datetime(2096, 10, 27, 23, 58, tzinfo=UTC).timestamp()  # 28 October 2096, 01:58 in Berlin
SPRING = datetime(2097, 3, 30, 23, 58, tzinfo=UTC).timestamp()
EXPRESSIONS = {
    "interval": "*/7 * * * *",
    "fixed": "30 2 * * *",
    "hours": "15 1-4 * * *",
    "wild": "*/20 2,3 * * *",
}


def changes(zone: str, near: float) -> float:
    """An instant some minutes before the clocks of the zone change next after `near`."""
    from zoneinfo import ZoneInfo

    at, step = near, 3_600.0
    offset = datetime.fromtimestamp(at, ZoneInfo(zone)).utcoffset()
    while datetime.fromtimestamp(at + step, ZoneInfo(zone)).utcoffset() == offset:
        at += step
    return at - 3_600.0


class Crowd:
    """Three keepers, each with a connection of its own; killed ones are replaced."""

    def __init__(self, broker: Broker, clock: ManualClock, dice: random.Random) -> None:
        self.broker = broker
        self.clock = clock
        self.dice = dice
        self.killed = self.ticks = 0
        self.ticked = asyncio.Event()
        self.keepers = [self.start() for _ in range(3)]

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.keep(), name="keeper under test")

    async def keep(self) -> None:
        ticker = Ticker(self.broker, self.clock, new_id())
        while True:
            with suppress(BrokerError):
                await ticker.tick()
            self.ticks += 1
            self.ticked.set()
            await asyncio.sleep(0)

    async def some_ticks(self) -> None:
        """Wait until they have ticked a few times more, or not at all."""
        goal = self.ticks + self.dice.randint(0, 6)
        while self.ticks < goal:
            self.ticked.clear()
            await self.ticked.wait()

    async def kill(self) -> None:
        """Kill one wherever it is: it resigns nothing, and its call may or may not arrive."""
        at = self.dice.randrange(3)
        self.keepers[at].cancel()
        await asyncio.wait([self.keepers[at]])
        self.keepers[at] = self.start()
        self.killed += 1

    async def end(self) -> None:
        for keeper in self.keepers:
            keeper.cancel()
        await asyncio.wait(self.keepers)


@pytest.mark.parametrize(
    "near", [AUTUMN - 30 * 86_400, SPRING - 30 * 86_400], ids=["autumn", "spring"]
)
async def test_three_keepers_killed_over_a_change_of_clocks_fire_every_time_once(
    broker_url: str, near: float
) -> None:
    dice = random.Random(int(near))
    clock = ManualClock(changes("Europe/Berlin", near))
    broker = connect(broker_url, clock=clock)
    await broker.open()
    rig, start = Rig(broker, clock), clock.time()
    for name, expression in EXPRESSIONS.items():
        await rig.create(name, cron=expression, tz="Europe/Berlin", catch_up="all")
    await rig.create("grid", every=30.0, catch_up="all")
    crowd = Crowd(broker, clock, dice)
    try:
        for _ in range(150):
            clock.advance(dice.choice([1.0, 20.0, 60.0, 180.0]))
            await crowd.some_ticks()
            if dice.random() < 0.3:
                await crowd.kill()
    finally:
        await crowd.end()
    for _ in range(3):  # a call of the dead may still arrive, and lead for a while
        await rig.after(10)
    found = Counter(await rig.tasks())
    times = {
        name: made(name, cron=expression, tz="Europe/Berlin").timing
        for name, expression in EXPRESSIONS.items()
    } | {"grid": timing(every=30.0)}
    wanted = [
        fire_id(name, at)
        for name, when in times.items()
        for at in when.between(start, clock.time(), 1_000_000)
    ]
    assert crowd.killed > 20
    assert len(wanted) > 200
    assert found == Counter(wanted)
    await broker.close()


@pytest.mark.unmeasured
async def test_ten_thousand_that_are_due_at_once_fire_once_and_together(rig: Rig) -> None:
    names = [f"tenant {n:05}" for n in range(10_000)]
    await make_many(rig, names)
    calls = Calls(rig.broker)
    rig.ticker = Ticker(calls, rig.clock, "counting")  # type: ignore[arg-type]
    assert await rig.tick() == 0
    calls.made.clear()
    at = rig.clock.time() + 1_000
    assert await rig.after(1_000) == 10_000
    assert calls.made["push"] <= 11
    assert calls.made["put"] <= 256
    assert set(await rig.tasks()) == {fire_id(name, at) for name in names}
    assert await rig.tick() == 0


async def make_many(rig: Rig, names: list[str]) -> None:
    """Store schedules without touching the revision for each."""
    book = Book(rig.broker.documents)
    # Few at a time: each must be answered in time, on a busy machine too.
    for start in range(0, len(names), 100):
        await asyncio.gather(
            *(book.put(made(name, every=1_000.0), 0) for name in names[start : start + 100])
        )
    shards: dict[str, dict[str, Entry]] = {}
    for name in names:
        shards.setdefault(shard_of(name), {})[name] = Entry(cursor=rig.clock.time())
    for shard, entries in shards.items():
        await rig.broker.documents.put(FIRES, shard, encode(entries), 0)
    await book.touch()


class Calls:
    """A broker that counts what it is asked."""

    def __init__(self, inner: object, made: Counter[str] | None = None) -> None:
        self._inner = inner
        self.made: Counter[str] = Counter() if made is None else made

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if name == "documents":
            return Calls(found, self.made)
        self.made[name] += 1
        return found
