"""Another time for a task that is scheduled, by its handle."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from conveyor import Conveyor
from conveyor.core.errors import InvalidOption, TaskNotFound
from conveyor.core.task import State
from tests.running import at_work

HOUR = 3_600.0


async def test_a_handle_moves_what_is_scheduled(app: Conveyor) -> None:
    @app.task(name="add")
    async def add(a: int) -> int:
        return a + 1

    later = add.with_options(delay=HOUR)
    moved, hurried = await later.enqueue(1), await later.enqueue(2)
    at = datetime.now(UTC) + timedelta(days=2)
    assert await moved.reschedule(at=at)
    assert (await moved.info()).due_at == pytest.approx(at.timestamp(), abs=0.01)
    assert await moved.reschedule(delay=timedelta(days=3))
    due = (await moved.info()).due_at
    assert due is not None
    assert 86_000 < due - at.timestamp() < 87_000
    assert await hurried.reschedule(delay=0)
    async with at_work(app):
        assert await hurried.result(30) == 3
    assert not await hurried.reschedule(delay=5)
    assert await hurried.status() is State.SUCCEEDED
    assert await moved.status() is State.SCHEDULED


async def test_what_makes_no_sense_is_refused(app: Conveyor) -> None:
    handle = app.handle("01890000-0000-7000-8000-000000000000")
    with pytest.raises(TaskNotFound, match="no task has the id '01890000"):
        await handle.reschedule(delay=5)
    with pytest.raises(InvalidOption, match="without a time: give it delay= or at="):
        await handle.reschedule()
    for wrong in (
        {"delay": 1, "at": datetime.now(UTC)},
        {"delay": -1},
        {"at": datetime.now()},  # noqa: DTZ005
    ):
        with pytest.raises(InvalidOption):
            await handle.reschedule(**wrong)


def test_plain_code_may_too(broker_url: str) -> None:
    app = Conveyor(broker_url)

    @app.task(name="add")
    async def add(a: int) -> int:
        return a + 1

    handle = add.with_options(delay=HOUR).enqueue_sync(1)
    assert handle.reschedule_sync(at=datetime.now(UTC) + timedelta(days=1))
    assert handle.reschedule_sync(delay=0)

    async def work() -> None:
        async with app, at_work(app):
            assert await app.handle(handle.id).result(30) == 2

    with pytest.raises(InvalidOption, match="without a time"):
        handle.reschedule_sync()
    asyncio.run(work())
    app.close_sync()
