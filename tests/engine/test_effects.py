"""Effects outside of the queue: done once, or in doubt, never blindly again."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor import Conveyor, Reject, current_task
from conveyor.core.errors import InvalidOption, TaskNotFound
from conveyor.core.task import State
from conveyor.effects import effect, effects_of, resolve
from conveyor.keeper.effects import EffectBroom
from tests.running import at_work, ended


class Died(BaseException):
    """What a crash looks like to the effect: the block ends, and the outcome is never stored."""


class Outbound:
    """A foreign system that counts."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    async def send(self, execution: int) -> str:
        self.sent.append(execution)
        return f"250 by {execution}"


async def test_an_effect_with_an_outcome_is_skipped_on_a_retry(app: Conveyor) -> None:
    outbound = Outbound()

    @app.task
    async def mail() -> str:
        async with effect("smtp", "ada") as sending:
            if sending.needed:
                sending.value = await outbound.send(current_task().attempt)
        if current_task().attempt == 1:
            raise RuntimeError("after it")
        return str(sending.value)

    async with at_work(app):
        handle = await mail.enqueue()
        assert await handle.result(timeout=10) == "250 by 1"
    assert outbound.sent == [1]
    (known,) = await effects_of(app, handle.id)
    assert (known.name, known.key, known.state, known.value) == (
        "smtp",
        "ada",
        "happened",
        "250 by 1",
    )


@pytest.mark.parametrize(
    ("policy", "sent", "value"),
    [("skip", [1], None), ("resend", [1, 2], "250 by 2")],
)
async def test_a_policy_for_the_doubt(
    app: Conveyor, policy: Any, sent: list[int], value: Any
) -> None:
    outbound = Outbound()

    async def attempt() -> str:
        said = await outbound.send(current_task().attempt)
        if current_task().attempt == 1:
            raise Died
        return said

    @app.task
    async def mail() -> str | None:
        return await effect("smtp", "ada", policy=policy).once(attempt)

    async with at_work(app):
        assert await (await mail.enqueue()).result(timeout=10) == value
    assert outbound.sent == sent


@pytest.mark.parametrize("happened", [True, False])
async def test_a_check_says_whether_it_happened(app: Conveyor, happened: bool) -> None:
    outbound = Outbound()

    async def ask() -> bool:
        return happened

    @app.task
    async def mail() -> int:
        async with effect("smtp", "ada", policy=ask) as sending:
            if sending.needed:
                await outbound.send(current_task().attempt)
                if current_task().attempt == 1:
                    raise Died
        return 1

    async with at_work(app):
        assert await (await mail.enqueue()).result(timeout=10) == 1
    assert outbound.sent == ([1] if happened else [1, 2])


@pytest.mark.parametrize("happened", [True, False])
async def test_a_doubt_is_held_until_somebody_decides(app: Conveyor, happened: bool) -> None:
    outbound = Outbound()

    @app.task
    async def mail() -> str | None:
        async with effect("smtp", "ada") as sending:
            if sending.needed:
                sending.value = await outbound.send(current_task().fencing_token)
                if current_task().fencing_token == 1:
                    raise Died
        return None if sending.value is None else str(sending.value)

    async with at_work(app):
        handle = await mail.enqueue()
        info = await ended(handle)
        assert info.state is State.FAILED
        assert (info.reason or "").startswith("in doubt: effect 'smtp' for 'ada'")
        assert info.flags == ("in_doubt",)
        assert outbound.sent == [1]
        with pytest.raises(TaskNotFound):
            await resolve(app, handle.id, "other", happened=happened)
        await resolve(app, handle.id, "smtp", "ada", happened=happened, value="seen in its log")
        said = await handle.result(timeout=10)
    assert said == ("seen in its log" if happened else "250 by 3")
    assert outbound.sent == ([1] if happened else [1, 3])


async def test_a_refusal_proves_that_nothing_happened(app: Conveyor) -> None:
    tries: list[int] = []

    @app.task
    async def mail() -> int:
        async with effect("smtp", "ada", refused=ConnectionRefusedError) as sending:
            if sending.needed:
                tries.append(current_task().attempt)
                if len(tries) < 3:
                    raise ConnectionRefusedError
        return len(tries)

    async with at_work(app):
        assert await (await mail.enqueue()).result(timeout=10) == 3


async def test_an_older_execution_cannot_take_part_any_more(app: Conveyor) -> None:
    """Its intent, or outcome, is refused once a newer one has been here."""

    @app.task
    async def mail() -> str:
        task = current_task()
        newer = effect("smtp", "ada")
        newer._execution = task.fencing_token + 1
        late = effect("smtp", "bob")
        async with late as sending:
            assert sending.needed
            bobs = effect("smtp", "bob", policy="resend")
            bobs._execution = task.fencing_token + 1
            await bobs.__aenter__()
            await newer.__aenter__()
        return "not reached"

    async with at_work(app):
        info = await ended(await mail.with_options(max_attempts=1).enqueue())
    assert info.error is not None
    assert info.error.type.endswith("StaleExecution")


async def test_from_a_thread(app: Conveyor) -> None:
    @app.task
    def mail(number: int) -> int:
        with effect("smtp", number) as sending:
            if sending.needed:
                sending.value = number * 2
        if current_task().attempt == 1:
            raise RuntimeError("again")
        return int(sending.value)

    async with at_work(app):
        assert await (await mail.enqueue(4)).result(timeout=10) == 8


def test_a_policy_that_is_none() -> None:
    with pytest.raises(InvalidOption, match="hold, skip, resend"):
        effect("smtp", 1, policy="perhaps")  # type: ignore[arg-type]


async def test_effects_are_forgotten_with_their_success(app: Conveyor) -> None:
    @app.task(queue="default")
    async def mail(fails: bool) -> None:
        async with effect("smtp", "ada"):
            pass
        if fails:
            raise Reject("for good")

    async with at_work(app) as worker:
        good, bad = await mail.enqueue(False), await mail.enqueue(True)
        for handle in (good, bad):
            await ended(handle)
        assert await EffectBroom(worker.broker).sweep(0.0) == 1
    assert await effects_of(app, good.id) == []
    assert len(await effects_of(app, bad.id)) == 1
