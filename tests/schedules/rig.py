"""What tests of schedules share: short words for making them, ticking, and what was enqueued."""

from collections import Counter
from typing import Any

from conveyor.brokers.base import Broker, Filter, Step
from conveyor.core.outcome import Succeeded
from conveyor.core.schedule import Schedule, fire_id
from conveyor.core.task import Lease, State, Task
from conveyor.core.timing import timing
from conveyor.keeper.ticker import Ticker
from conveyor.schedules.desk import Desk, ScheduleInfo, draft
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.rig import Rig as Store

PAYLOAD = b"\x92\x90\x80"


def made(name: str, every: float | None = 10.0, cron: str | None = None, **policy: Any) -> Schedule:
    tz = policy.pop("tz", None)
    task = Task("", "work", policy.pop("queue", "q"), 5, PAYLOAD, 0.0)
    return draft(name, task, timing(cron=cron, every=None if cron else every, tz=tz), **policy)


class Rig:
    """A store, its desk, and keepers that tick when they are told."""

    def __init__(self, broker: Broker, clock: ManualClock) -> None:
        self.broker = broker
        self.clock = clock
        self.desk = Desk(broker, clock)
        self.ticker = self.keeper()

    def keeper(self, broker: Broker | None = None) -> Ticker:
        """One more keeper."""
        return Ticker(broker or self.broker, self.clock, new_id())

    async def create(self, name: str, **fields: Any) -> ScheduleInfo:
        return await self.desk.create(made(name, **fields))

    async def tick(self, ticker: Ticker | None = None) -> int:
        """Let a keeper do all it wants to do now; returns how many tasks it pushed."""
        one = ticker or self.ticker
        before = one.fired
        one.look_again()
        while await one.tick() == 0.0:
            pass
        return one.fired - before

    async def after(self, seconds: float, ticker: Ticker | None = None) -> int:
        """Let time pass, then tick."""
        self.clock.advance(seconds)
        return await self.tick(ticker)

    async def tasks(self) -> list[str]:
        """Ids of all tasks, oldest first."""
        found: list[str] = []
        before: str | None = None
        while page := await self.broker.inspector.tasks(Filter(before=before, limit=1_000)):
            found += [info.id for info in page]
            before = page[-1].id
        return found[::-1]

    async def fires(self, name: str, start: float) -> list[float]:
        """Seconds from `start` of the fires of a schedule on a whole grid of seconds."""
        ids = set(await self.tasks())
        return [
            at - start
            for at in range(int(start), int(self.clock.time()) + 1)
            if fire_id(name, at) in ids
        ]

    async def lease(self, worker: str = "w", want: int = 10) -> list[Lease]:
        await self.broker.renew([worker], 1e6)
        return list((await self.broker.step(Step(worker, ["q"], want))).leases)

    async def finish(self, *leases: Lease) -> None:
        """End these tasks well."""
        store = Store(lambda _: self.broker, None)  # type: ignore[arg-type]
        store.clock = self.clock
        for lease in leases:
            settlement = store.settlement(lease, Succeeded(b"\xc0"))
            reply = await self.broker.step(Step(lease.worker, ["q"], 0, [settlement]))
            assert not reply.refused

    async def states(self) -> Counter[State]:
        return Counter({s: n for s, n in (await self.broker.inspector.counts()).items() if n})
