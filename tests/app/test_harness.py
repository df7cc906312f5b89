"""The test kit: a real broker and engine under a clock that the test moves."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from conveyor import Conveyor, Retry, Snooze, current_task
from conveyor.core.task import State
from conveyor.testing import Harness, assert_enqueued, drain, harness
from conveyor.testing.clock import ManualClock

app = Conveyor("sqlite:///never-used.db", retry=Retry(max_attempts=3, base=100, cap=100))
ran: list[object] = []


@app.task
async def welcome(name: str, *, loud: bool = False) -> str:
    ran.append(name)
    return f"welcome {name}{'!' * loud}"


@app.task(queue="mail", priority=8)
def sign_up(name: str) -> None:
    welcome.enqueue_sync(name, loud=True)


@app.task
async def flaky(fails: int) -> int:
    task = current_task()
    ran.append(task.attempt)
    if task.attempt <= fails:
        raise ValueError("not yet")
    return task.attempt


@app.task
async def patient() -> None:
    if current_task().fencing_token < 4:
        raise Snooze(3_600)


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    ran.clear()
    yield
    assert not list(tmp_path.iterdir()), "the app's own store is not touched"


async def test_tasks_and_those_they_enqueue_run() -> None:
    async with harness(app) as kit:
        await sign_up.enqueue("ada")
        await kit.assert_enqueued(sign_up, ["ada"], queue="mail", priority=8, count=1)
        assert (await kit.drain())[State.SUCCEEDED] == 2
        assert ran == ["ada"]
        done = await kit.tasks(State.SUCCEEDED)
        assert [info.name.rpartition(".")[2] for info in done] == ["sign_up", "welcome"]


async def test_retries_wait_for_the_clock_that_the_test_moves() -> None:
    async with harness(app) as kit:
        handle = await flaky.enqueue(2)
        await kit.drain()
        assert await handle.status() is State.SCHEDULED
        kit.clock.advance(100)
        await kit.drain()
        assert ran == [1, 2]
        before = kit.clock.time()
        await kit.drain(scheduled=True)
        assert await handle.result(1) == 3
        assert before <= kit.clock.time() <= before + 101


async def test_scheduled_moves_the_clock_to_each_due_time() -> None:
    async with harness(app) as kit:
        handle = await patient.enqueue()
        late = await welcome.with_options(delay=86_400).enqueue("eve")
        began = kit.clock.time()
        counts = await kit.drain(scheduled=True, concurrency=4)
        assert counts[State.SUCCEEDED] == 2
        assert await handle.status() is State.SUCCEEDED
        assert await late.result(1) == "welcome eve"
        assert kit.clock.time() - began == pytest.approx(86_400, abs=1)


async def test_the_assertion_says_what_was_enqueued_instead() -> None:
    async with harness(app) as kit:
        await welcome.enqueue("bob")
        await kit.assert_enqueued(welcome)
        await kit.assert_enqueued(welcome, ["bob"], {})
        await kit.assert_enqueued(sign_up, count=0)
        with pytest.raises(AssertionError, match=r"(?s)expected at least one .*\('bob',\)") as e:
            await kit.assert_enqueued(welcome, ["ada"])
        assert "found 0" in str(e.value)
        with pytest.raises(AssertionError, match="expected 2 waiting"):
            await kit.assert_enqueued(welcome, count=2)
        with pytest.raises(AssertionError, match="expected at least one"):
            await kit.assert_enqueued(welcome, kwargs={"loud": True})


async def test_dead_letters_are_kept() -> None:
    async with harness(app) as kit:
        await flaky.with_options(max_attempts=1).enqueue(9)
        counts = await kit.drain()
        assert counts[State.FAILED] == 1
        (dead,) = await kit.tasks(State.FAILED)
        assert dead.error is not None
        assert dead.error.message == "not yet"


async def test_the_functions_find_the_app_s_active_harness() -> None:
    with pytest.raises(RuntimeError, match="this app is not under test"):
        await drain(app)
    async with harness(app, clock=ManualClock(1_000_000_000.0)) as kit:
        await welcome.enqueue("ada")
        assert len(await assert_enqueued(welcome, ["ada"])) == 1
        assert (await drain(app))[State.SUCCEEDED] == 1
        assert kit.clock.time() == 1_000_000_000.0
    with pytest.raises(RuntimeError, match="this app is not under test"):
        await assert_enqueued(welcome)


async def test_one_harness_knows_nothing_of_the_one_before() -> None:
    for _ in range(2):
        async with harness(app) as kit:
            assert await kit.tasks() == []
            await welcome.enqueue("ada")


async def test_the_fixture_of_the_plugin(
    conveyor_harness: Callable[[Conveyor], AbstractAsyncContextManager[Harness]],
) -> None:
    async with conveyor_harness(app) as kit:
        await welcome.enqueue("ada")
        assert (await kit.drain())[State.SUCCEEDED] == 1
