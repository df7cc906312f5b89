"""How long PostgreSQL keeps what ended (D3, D28): cancelled tasks are dead letters too."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from conveyor.brokers.base import DEAD_RETENTION_SECONDS, RETENTION_SECONDS
from conveyor.brokers.url import connect
from conveyor.core.errors import TaskNotFound
from conveyor.core.outcome import Interrupted
from conveyor.core.task import State, Task
from conveyor.testing.conformance.rig import Capabilities, Rig
from tests.chaos.test_postgres_faults import migrated
from tests.servers import PostgresServer

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]


@pytest.fixture
async def rig(postgres_url: str) -> AsyncIterator[Rig]:
    """A rig that travels in time."""
    await migrated(postgres_url)
    rig = Rig(lambda clock: connect(postgres_url, clock=clock), Capabilities())
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


async def test_both_sides_know_the_same_retention(
    rig: Rig, postgres: PostgresServer, postgres_url: str
) -> None:
    assert postgres.fetch(
        "SELECT conveyor.retention(), conveyor.dead_retention()", url=postgres_url
    ) == [(RETENTION_SECONDS, DEAD_RETENTION_SECONDS)]


async def cancelled_waiting(rig: Rig) -> Task:
    task = await rig.pushed(key="k")
    await rig.broker.cancel([task.id])
    return task


async def cancelled_running(rig: Rig) -> Task:
    """Its worker puts it back and learns that it was cancelled."""
    task = await rig.pushed(key="k")
    lease = await rig.lease()
    await rig.broker.cancel([task.id])
    await rig.settle(lease, Interrupted())
    return task


@pytest.mark.parametrize("cancelled", [cancelled_waiting, cancelled_running])
async def test_a_cancelled_task_is_kept_for_thirty_days(
    rig: Rig, cancelled: Callable[[Rig], Awaitable[Task]]
) -> None:
    task = await cancelled(rig)
    rig.clock.advance(RETENTION_SECONDS + 60)
    await rig.broker.tidy()
    again = await rig.pushed(key="k")  # the key is free after a day
    rig.clock.advance(DEAD_RETENTION_SECONDS - RETENTION_SECONDS - 120)
    await rig.broker.tidy()
    assert await rig.broker.requeue([task.id]) == [task.id]
    assert set(await rig.waiting_ids()) == {task.id, again.id}
    assert await rig.is_healthy()


async def test_a_cancelled_task_is_pruned_in_the_end(rig: Rig) -> None:
    task = await cancelled_waiting(rig)
    assert await rig.state(task) is State.CANCELLED
    rig.clock.advance(DEAD_RETENTION_SECONDS + 60)
    await rig.broker.tidy()
    with pytest.raises(TaskNotFound):
        await rig.info(task)
