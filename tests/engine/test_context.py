"""What a task can ask and say: `current_task()`, progress, logs, state, tasks of its own."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conveyor import Conveyor, current_task
from conveyor.core.errors import NotInTask
from conveyor.core.task import Progress, State
from conveyor.logbuffer import HEAD_LINES, TAIL_LINES
from tests.running import AT_ONCE, at_work, ended
from tests.worker.harness import soon


def facts() -> dict[str, Any]:
    task = current_task()
    return {
        "id": task.id,
        "name": task.name,
        "queue": task.queue,
        "attempt": task.attempt,
        "token": task.fencing_token,
        "key": task.idempotency_key,
        "headers": task.headers,
        "cancelled": task.cancelled,
        "text": repr(task),
    }


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_a_task_knows_who_it_is(app: Conveyor, kind: str) -> None:
    def ask() -> dict[str, Any]:
        if current_task().attempt == 1:
            raise ValueError("once more")
        return facts()

    async def ask_async() -> dict[str, Any]:
        return ask()

    task = app.task(name="ask")(ask_async if kind == "loop" else ask)
    async with at_work(app):
        handle = await task.with_options(headers={"trace": "t1"}).enqueue()
        assert await handle.result(10) == {
            "id": handle.id,
            "name": "ask",
            "queue": "default",
            "attempt": 2,
            "token": 2,
            "key": handle.id,
            "headers": {"trace": "t1"},
            "cancelled": False,
            "text": f"<ask {handle.id}, attempt 2>",
        }


async def test_outside_of_a_task_there_is_none() -> None:
    with pytest.raises(NotInTask, match="outside of a running task"):
        current_task()


async def test_concurrent_tasks_do_not_see_each_other(app: Conveyor) -> None:
    together = asyncio.Barrier(4)
    in_threads = threading.Barrier(4, timeout=10)

    @app.task
    async def on_loop() -> str:
        await together.wait()
        return current_task().id

    @app.task
    def in_thread() -> str:
        in_threads.wait()
        return current_task().id

    async with at_work(app, concurrency=8):
        for task in (on_loop, in_thread):
            handles = await app.enqueue_many(task.bind() for _ in range(4))
            assert [await h.result(10) for h in handles] == [h.id for h in handles]


async def test_progress_and_logs_are_visible_while_it_runs_and_after(app: Conveyor) -> None:
    release = asyncio.Event()

    @app.task
    async def work() -> None:
        task = current_task()
        for done in range(100):
            task.progress(done, 100, f"page {done}")
        task.logger.info("half way")
        logging.getLogger("a.library").warning("beware of %s", "dogs")
        task.logger.debug("too quiet to be kept")
        await release.wait()
        task.logger.error("the end")

    async with at_work(app):
        handle = await work.enqueue()

        async def noted() -> Progress | None:
            return (await handle.info()).progress

        assert await soon(noted) == Progress(99, 100, "page 99")
        release.set()
        await handle.result(10)
    (execution,) = (await handle.info()).executions
    logger = f"conveyor.task.{work.name}"
    assert [line.split(" ", 2)[2] for line in execution.logs] == [
        f"INFO {logger}: half way",
        "WARNING a.library: beware of dogs",
        f"ERROR {logger}: the end",
    ]


async def test_logs_are_kept_per_attempt_head_and_tail(app: Conveyor) -> None:
    @app.task
    def talk() -> None:
        for number in range(1_000):
            current_task().logger.info("%d of attempt %d", number, current_task().attempt)
        if current_task().attempt == 1:
            raise ValueError("again")

    async with at_work(app):
        info = await ended(await talk.enqueue())
    assert [len(e.logs) for e in info.executions] == [HEAD_LINES + TAIL_LINES + 1] * 2
    for execution in info.executions:
        assert execution.logs[0].endswith(f"0 of attempt {execution.attempt}")
        assert execution.logs[HEAD_LINES] == "… 800 lines left out …"
        assert execution.logs[-1].endswith(f"999 of attempt {execution.attempt}")


async def test_a_crowd_with_news_does_not_hurt_the_others(app: Conveyor) -> None:
    @app.task
    async def talk(n: int) -> int:
        current_task().progress(n)
        current_task().logger.info("here is %d", n)
        await asyncio.sleep(0)
        return n

    async with at_work(app, concurrency=50):
        handles = await app.enqueue_many(talk.bind(n) for n in range(200))
        assert [await h.result(10) for h in handles] == list(range(200))
    assert "here is 199" in (await handles[-1].info()).executions[0].logs[0]


async def test_the_lifespan_gives_state_and_is_closed_at_the_end(broker_url: str) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Conveyor) -> AsyncIterator[dict[str, Any]]:
        seen.append("opened")
        yield {"answer": 42}
        seen.append("closed")

    async with Conveyor(broker_url, lifespan=lifespan) as app:

        @app.task
        async def on_loop() -> int:
            return int(current_task().state["answer"])

        @app.task
        def in_thread() -> int:
            return int(current_task().state["answer"])

        async with at_work(app):
            assert await (await on_loop.enqueue()).result(10) == 42
            assert await (await in_thread.enqueue()).result(10) == 42
            assert seen == ["opened"]
    assert seen == ["opened", "closed"]


async def test_without_a_lifespan_the_state_is_empty(app: Conveyor) -> None:
    @app.task
    async def ask() -> int:
        return len(current_task().state)

    async with at_work(app):
        assert await (await ask.enqueue()).result(10) == 0


async def test_tasks_enqueue_tasks(app: Conveyor) -> None:
    @app.task
    async def leaf(n: int) -> int:
        return n * 10

    @app.task
    async def from_the_loop(n: int) -> str:
        return (await leaf.enqueue(n)).id

    @app.task
    def from_a_thread(n: int) -> str:
        return leaf.enqueue_sync(n).id

    @app.task
    def many_from_a_thread() -> list[str]:
        return [h.id for h in app.enqueue_many_sync(leaf.bind(n) for n in range(3))]

    @app.task
    def waits_in_a_thread(n: int) -> int:
        return leaf.enqueue_sync(n).result_sync(timeout=10)

    async with at_work(app):
        first = await (await from_the_loop.enqueue(1)).result(10)
        second = await (await from_a_thread.enqueue(2)).result(10)
        others = await (await many_from_a_thread.enqueue()).result(10)
        assert await (await waits_in_a_thread.enqueue(5)).result(10) == 50
        found = [await app.handle(i).result(10) for i in (first, second, *others)]
    assert found == [10, 20, 0, 10, 20]
    assert len(app._clients) == 1, "sync calls inside a task use the worker's own connection"


async def test_what_ran_is_told_by_the_execution(app: Conveyor) -> None:
    @app.task
    async def run() -> None: ...

    async with at_work(app) as worker:
        handle = await run.enqueue()
        await handle.result(10)
        info = await handle.info()
    (execution,) = info.executions
    assert execution.worker == worker.engine.token
    assert execution.code_version == run.code_version
    assert 0 <= execution.duration < 10
    assert info.state is State.SUCCEEDED
    assert info.started_at is not None
    assert info.finished_at is not None
    assert info.enqueued_at - 1 <= info.started_at <= info.finished_at + 1


async def test_a_note_after_the_end_changes_nothing(app: Conveyor) -> None:
    kept = []

    @app.task(retry=AT_ONCE)
    async def keep() -> None:
        kept.append(current_task())

    async with at_work(app) as worker:
        handle = await keep.enqueue()
        await handle.result(10)
        kept[0].progress(1, 1, "from beyond")
        await worker.engine._notes.flush()
        assert kept[0].over
    assert (await handle.info()).state is State.SUCCEEDED
