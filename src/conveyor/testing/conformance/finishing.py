"""Finals: what tasks ended in, readable as soon as the step returned (D20)."""

from __future__ import annotations

import pytest

from conveyor.core import codec
from conveyor.core.errors import TaskNotFound
from conveyor.core.task import Final, State
from conveyor.testing.conformance.rig import BOOM, Rig, failure, ok


async def test_only_finished_tasks_have_an_end(rig: Rig) -> None:
    good = await rig.pushed()
    await rig.settle(await rig.lease(), ok(7))
    bad = await rig.pushed()
    await rig.settle(await rig.lease(), failure(final=True))
    stopped = await rig.pushed()
    await rig.broker.cancel([stopped.id])
    running = await rig.pushed()
    await rig.lease()
    retried = await rig.pushed()
    await rig.settle(await rig.lease(), failure(delay=60))
    queued = await rig.pushed()
    everything = [good, bad, stopped, running, retried, queued]
    finals = await rig.broker.finals([task.id for task in everything])
    assert finals == {
        good.id: Final(good.id, State.SUCCEEDED, result=codec.encode(7, what="result")),
        bad.id: Final(bad.id, State.FAILED, error=BOOM),
        stopped.id: Final(stopped.id, State.CANCELLED),
    }


async def test_a_result_of_none_is_a_result(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), ok(None))
    final = await rig.final(task)
    assert final is not None
    assert final.result == codec.encode(None, what="result")


async def test_an_unknown_id_is_an_error_even_beside_known_ones(rig: Rig) -> None:
    known, unknown = await rig.pushed(), rig.task()
    with pytest.raises(TaskNotFound) as caught:
        await rig.broker.finals([known.id, unknown.id])
    assert caught.value.task_id == unknown.id


async def test_asking_for_nothing_is_answered_with_nothing(rig: Rig) -> None:
    assert await rig.broker.finals([]) == {}


async def test_another_broker_reads_the_result_at_once(rig: Rig) -> None:
    other = await rig.another()
    for number in range(20):
        task = await rig.pushed()
        await rig.settle(await rig.lease(), ok(number))
        final = (await other.finals([task.id]))[task.id]
        assert final.result == codec.encode(number, what="result")


async def test_a_success_after_failures_has_no_error(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), failure(delay=1))
    rig.clock.advance(2)
    await rig.settle(await rig.lease(), ok("at last"))
    final = await rig.final(task)
    assert final is not None
    assert (final.state, final.error) == (State.SUCCEEDED, None)
    assert final.result is not None
