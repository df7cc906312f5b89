"""Limits that find their rate, on real stores."""

from __future__ import annotations

import time

import pytest

from conveyor import Conveyor, Rate
from conveyor.brokers.adapting import learned_rates, speed_up
from conveyor.core.task import State
from conveyor.limits import Adapt, limit
from tests.running import at_work, reached
from tests.worker.apps import PARTNER, refused
from tests.worker.harness import TARGET, soon


async def rate_of(app: Conveyor) -> float | None:
    return next((info.state.rate for info in await limit("partner", app=app).info()), None)


@pytest.mark.parametrize("kind", ["loop", "thread", "process"])
async def test_a_refused_task_slows_its_limit_and_time_brings_it_back(
    app: Conveyor, kind: str
) -> None:
    broker = (await app.client()).broker

    async def call() -> None:
        refused.fn()

    define = app.task(
        name=refused.name,
        rate_limit=PARTNER,
        executor="process" if kind == "process" else "auto",
    )
    task = define(call if kind == "loop" else refused.fn)
    handle = await task.with_options(max_attempts=1).enqueue()
    async with at_work(app, target=TARGET):
        await reached(handle, State.FAILED)

        async def slowed() -> bool:
            return await rate_of(app) == 50.0

        await soon(slowed)
    now = (await learned_rates(broker))["partner"].at
    assert await speed_up(broker, now + 1) == 0
    assert await speed_up(broker, now + 25) == 1
    assert await rate_of(app) == pytest.approx(75.0)
    assert await speed_up(broker, now + 51) == 1
    assert await rate_of(app) is None
    assert await learned_rates(broker) == {}


async def test_a_person_pins_the_rate(app: Conveyor) -> None:
    broker = (await app.client()).broker
    partner = limit("partner", rate=Rate("100/s", adapt=Adapt()), app=app)
    await partner.tune(most=7)
    assert await partner.slow_down() == 50.0
    assert {info.state.most for info in await partner.info()} == {7}
    assert await partner.slow_down() is None  # The same trouble.
    await partner.tune(rate="20/s")
    assert await speed_up(broker, time.time() + 1_000) == 0
    assert await partner.slow_down() is None
    assert await rate_of(app) == 20.0
    await partner.tune()
    assert await partner.slow_down() == 50.0
