"""A worker does what a person told it through the store, with its next heartbeat."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor import Conveyor
from conveyor.brokers.base import Broker, WorkerInfo
from conveyor.core.task import State
from conveyor.errors import InvalidOption, WorkerNotFound
from conveyor.workers import drain, held, order, orders, pause, resume, shutdown, worker, workers
from tests.worker.harness import child_of, enqueue, reached, running, soon, started

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture
async def app(store: Broker, sqlite_url: str) -> AsyncIterator[Conveyor]:
    async with Conveyor(sqlite_url) as app:
        yield app


async def only(app: Conveyor, mode: str = "working") -> WorkerInfo:
    """Wait until one worker lives that is in this mode."""

    async def there() -> WorkerInfo | None:
        found = await workers(app)
        return found[0] if len(found) == 1 and found[0].mode == mode else None

    info: WorkerInfo = await soon(there, 20)
    return info


async def test_a_paused_worker_takes_nothing_and_finishes_what_it_runs(
    store: Broker, app: Conveyor, tmp_path: Path
) -> None:
    first = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path) as process:
        await started(tmp_path)
        token = (await only(app)).id
        assert [one.lease.task.id for one in await held(app, token)] == [first.id]
        await pause(app, token, reason="a full disk", by="ada")
        await only(app, "paused")
        assert await orders(app) == {}
        second = await enqueue(store, "wait_for_go", str(tmp_path))
        (tmp_path / "go").touch()
        await reached(store, first, State.SUCCEEDED)
        info = await worker(app, token)
        assert info.concurrency > 0
        assert (await store.inspector.get(second.id)).state is State.QUEUED
        await resume(app, token, by="ada")
        await reached(store, second, State.SUCCEEDED)
        assert "pause, by ada: a full disk" in process.text


async def test_whoever_takes_the_place_of_a_paused_child_is_paused(
    store: Broker, app: Conveyor, tmp_path: Path
) -> None:
    with running(tmp_path) as process:
        token = (await only(app)).id
        await pause(app, token)
        await only(app, "paused")
        child_of(process).kill()
        await soon(lambda: "killed" in process.text)

        async def another() -> WorkerInfo | None:
            return next((one for one in await workers(app) if one.id != token), None)

        heir = await soon(another, 20)
        task = await enqueue(store, "wait_for_go", str(tmp_path))
        (tmp_path / "go").touch()
        await only(app, "paused")
        assert (await store.inspector.get(task.id)).state is State.QUEUED
        await resume(app, heir.id)
        await reached(store, task, State.SUCCEEDED)


async def test_a_drained_worker_ends_when_its_tasks_have(
    store: Broker, app: Conveyor, tmp_path: Path
) -> None:
    first = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path, shutdown_grace=0.1) as process:
        await started(tmp_path)
        await drain(app, (await only(app)).id, by="ada")
        await only(app, "draining")
        second = await enqueue(store, "wait_for_go", str(tmp_path))
        (tmp_path / "go").touch()
        assert process.end() == 0
        assert (await reached(store, first, State.SUCCEEDED)).executions[-1].number == 1
        assert (await store.inspector.get(second.id)).state is State.QUEUED


async def test_a_drain_gives_way_to_a_signal(store: Broker, app: Conveyor, tmp_path: Path) -> None:
    task = await enqueue(store, "wait_for_go", str(tmp_path))
    with running(tmp_path, shutdown_grace=0.1) as process:
        await started(tmp_path)
        await drain(app, (await only(app)).id)
        await only(app, "draining")
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert (await reached(store, task, State.QUEUED)).attempts == 0


async def test_a_shutdown_is_a_sigterm_for_one_of_two(
    store: Broker, app: Conveyor, tmp_path: Path
) -> None:
    with running(tmp_path, processes=2, shutdown_grace=0.1) as process:

        async def both() -> list[WorkerInfo] | None:
            return found if len(found := await workers(app)) == 2 else None

        first, second = await soon(both, 20)
        await shutdown(app, first.id)
        assert (await only(app)).id == second.id
        task = await enqueue(store, "wait_for_go", str(tmp_path))
        await started(tmp_path)
        await shutdown(app, second.id)
        assert process.end() == 0
        assert (await reached(store, task, State.QUEUED)).attempts == 0


async def test_who_is_not_there_cannot_be_told(app: Conveyor) -> None:
    with pytest.raises(WorkerNotFound, match="list them first"):
        await pause(app, "nobody")
    with pytest.raises(WorkerNotFound):
        await worker(app, "nobody")
    with pytest.raises(InvalidOption, match="one of pause, resume, drain, shutdown"):
        await order(app, "nobody", "explode")  # type: ignore[arg-type]
