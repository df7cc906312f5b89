"""Settlements: what they make of a task, and the fence that keeps stale ones out (D8, D10-D12)."""

from __future__ import annotations

import msgspec
import pytest

from conveyor.brokers.base import Settlement
from conveyor.core import codec
from conveyor.core.lifecycle import LOST_ERROR, Transition
from conveyor.core.outcome import (
    Crashed,
    Interrupted,
    Lost,
    Outcome,
    Rejected,
    Released,
    Snoozed,
    TimedOut,
)
from conveyor.core.task import UNTOUCHED, Counters, Lease, State
from conveyor.testing.conformance.rig import BOOM, Rig, failure, ok


async def test_success_is_final_with_its_result_and_its_execution(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    rig.clock.advance(2)
    assert await rig.settle(lease, ok({"sent": 3}))
    info = await rig.info(task)
    assert (info.state, info.execution, info.attempts) == (State.SUCCEEDED, 1, 0)
    assert info.finished_at == pytest.approx(rig.clock.time(), abs=0.01)
    (execution,) = info.executions
    assert (execution.number, execution.attempt, execution.outcome) == (1, 1, "succeeded")
    assert execution.worker == "w"
    assert execution.duration == pytest.approx(2, abs=0.01)
    final = await rig.final(task)
    assert final is not None
    assert (final.state, final.error) == (State.SUCCEEDED, None)
    assert codec.decode(final.result or b"") == {"sent": 3}


async def test_a_failure_is_scheduled_again_with_its_error(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    assert await rig.settle(lease, failure(delay=30))
    info = await rig.info(task)
    assert (info.state, info.attempts, info.error) == (State.SCHEDULED, 1, BOOM)
    assert info.due_at == pytest.approx(rig.clock.time() + 30, abs=0.01)
    assert "retrying" in info.flags
    (execution,) = info.executions
    assert (execution.outcome, execution.error, execution.retry_in) == ("failed", BOOM, 30)
    assert await rig.final(task) is None


async def test_attempts_used_up_make_a_dead_letter_with_every_execution(rig: Rig) -> None:
    """D11: dead letters keep all attempts, the payload and the traceback."""
    task = await rig.pushed(max_attempts=3, args=["keep me"])
    for attempt in (1, 2, 3):
        lease = await rig.lease()
        assert (lease.execution, lease.attempt) == (attempt, attempt)
        assert await rig.settle(lease, failure(delay=1))
        rig.clock.advance(2)
    info = await rig.info(task)
    assert (info.state, info.attempts, info.args) == (State.FAILED, 3, ("keep me",))
    assert info.reason == "all 3 attempt(s) used up"
    assert info.error == BOOM
    assert [execution.number for execution in info.executions] == [1, 2, 3]
    assert all(execution.error == BOOM for execution in info.executions)
    assert await rig.waiting_ids() == []


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (failure(final=True), State.FAILED),
        (Rejected(BOOM), State.FAILED),
        (TimedOut(BOOM), State.SCHEDULED),
        (Crashed(BOOM), State.SCHEDULED),
        (Snoozed(5), State.SCHEDULED),
        (Interrupted(), State.QUEUED),
        (Released(), State.QUEUED),
        (Lost(), State.QUEUED),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
async def test_every_outcome_leads_to_the_decided_state(
    rig: Rig, outcome: Outcome, state: State
) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    settlement = rig.settlement(lease, outcome)
    assert settlement.transition.to is state
    assert not (await rig.step(settlement, want=0)).refused
    info = await rig.info(task)
    assert (info.state, info.error) == (state, settlement.transition.error)
    assert info.attempts == settlement.transition.counters.attempts
    assert len(info.executions) == (settlement.execution is not None)
    assert await rig.is_healthy()


@pytest.mark.parametrize("outcome", [Snoozed(1), Interrupted(), Released()], ids=lambda o: o.name)
async def test_what_is_free_of_charge_never_uses_attempts_up(rig: Rig, outcome: Outcome) -> None:
    await rig.pushed(max_attempts=1)
    for number in range(1, 6):
        lease = await rig.lease()
        assert (lease.execution, lease.attempt) == (number, 1)
        assert await rig.settle(lease, outcome)
        rig.clock.advance(2)
    assert (await rig.lease()).execution == 6


async def test_a_lease_that_was_never_started_leaves_no_record(rig: Rig) -> None:
    """D7: the number was used, so it is not given out again; nothing else remains."""
    task = await rig.pushed()
    await rig.settle(await rig.lease(), Released())
    info = await rig.info(task)
    assert (info.executions, info.attempts, info.execution) == ((), 0, 1)
    assert (await rig.lease()).execution == 2


async def test_counters_come_back_with_the_next_lease(rig: Rig) -> None:
    """D12: crashes, losses and snoozes are told apart from attempts."""
    await rig.pushed(max_attempts=9)
    seen = []
    for outcome in (Lost(), Snoozed(1), Lost(), Crashed(BOOM), failure(delay=1), Crashed(BOOM)):
        lease = await rig.lease()
        seen.append(lease.counters)
        await rig.settle(lease, outcome, dice=0)
        rig.clock.advance(2)
    last = await rig.lease()
    assert seen == [
        UNTOUCHED,
        Counters(losses=1),
        Counters(losses=1, snoozes=1),
        Counters(losses=2, snoozes=1),
        Counters(attempts=1, crashes=1, snoozes=1),
        Counters(attempts=2, crashes=1, snoozes=1),
    ]
    assert last.counters == Counters(attempts=3, crashes=2, snoozes=1)
    assert last.must_run_alone


async def test_a_lost_execution_is_on_record_and_queued_again(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), Lost())
    info = await rig.info(task)
    assert (info.state, info.error) == (State.QUEUED, LOST_ERROR)
    assert [execution.outcome for execution in info.executions] == ["lost"]
    assert (await rig.lease()).counters == Counters(losses=1)


async def test_executions_are_kept_in_order_with_their_logs(rig: Rig) -> None:
    task = await rig.pushed()
    for number in (1, 2, 3):
        settlement = rig.settlement(await rig.lease(), Snoozed(1) if number < 3 else ok())
        assert settlement.execution is not None
        record = msgspec.structs.replace(
            settlement.execution, logs=(f"line of {number}", "naïve ✓"), code_version="abc"
        )
        await rig.step(msgspec.structs.replace(settlement, execution=record), want=0)
        rig.clock.advance(2)
    executions = (await rig.info(task)).executions
    assert [execution.number for execution in executions] == [1, 2, 3]
    assert [execution.logs[0] for execution in executions] == [f"line of {n}" for n in (1, 2, 3)]
    assert {execution.code_version for execution in executions} == {"abc"}


async def test_a_superseded_execution_is_refused_and_changes_nothing(rig: Rig) -> None:
    """D8: the worker was stalled, its task was given to another one."""
    task = await rig.pushed()
    stale = await rig.lease(worker="stalled")
    assert await rig.settle(stale, Lost())
    fresh = await rig.lease(worker="healthy")
    before = await rig.info(task)
    for outcome in (ok("late"), failure(), failure(final=True), Interrupted(), Released(), Lost()):
        reply = await rig.step(rig.settlement(stale, outcome), want=0, worker="stalled")
        assert list(reply.refused) == [task.id]
    assert await rig.info(task) == before
    assert await rig.settle(fresh, ok("in time"))
    final = await rig.final(task)
    assert final is not None
    assert final.result == codec.encode("in time", what="result")


@pytest.mark.parametrize(
    "outcome", [ok("first"), failure(final=True), failure(delay=9), Interrupted()], ids=str
)
async def test_a_settlement_sent_twice_counts_once(rig: Rig, outcome: Outcome) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    assert await rig.settle(lease, outcome)
    before = await rig.info(task)
    assert not await rig.settle(lease, outcome)
    assert not await rig.settle(lease, ok("second"))
    assert await rig.info(task) == before


@pytest.mark.parametrize("second", [ok("b"), failure(final=True), failure(delay=9), Interrupted()])
async def test_two_ends_of_one_execution_in_one_step_count_once(rig: Rig, second: Outcome) -> None:
    """Reading: one counts and the other is refused; which one is up to the store."""
    task = await rig.pushed()
    lease = await rig.lease()
    ends = [rig.settlement(lease, ok("a")), rig.settlement(lease, second)]
    reply = await rig.step(*ends, want=0)
    assert list(reply.refused) == [task.id]
    info = await rig.info(task)
    assert info.state in {end.transition.to for end in ends}
    assert len(info.executions) == 1
    assert await rig.is_healthy()


async def test_a_task_nobody_leased_cannot_be_settled(rig: Rig) -> None:
    task = await rig.pushed()
    assert not await rig.settle(Lease(task, execution=1, worker="w"), ok())
    assert not await rig.settle(Lease(task, execution=0, worker="w"), ok())
    assert await rig.state(task) is State.QUEUED
    assert (await rig.lease()).execution == 1


async def test_a_number_from_the_future_is_refused(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    assert not await rig.settle(msgspec.structs.replace(lease, execution=2), ok())
    assert await rig.state(task) is State.RUNNING
    assert await rig.settle(lease, ok())


async def test_an_unknown_task_is_refused_beside_good_ones(rig: Rig) -> None:
    task, unknown = await rig.pushed(), rig.task()
    lease = await rig.lease()
    reply = await rig.step(
        rig.settlement(Lease(unknown, execution=1, worker="w"), ok()),
        rig.settlement(lease, ok()),
        want=0,
    )
    assert list(reply.refused) == [unknown.id]
    assert await rig.counts() == {State.SUCCEEDED: 1}
    assert await rig.state(task) is State.SUCCEEDED


async def test_the_fence_is_the_number_not_the_worker(rig: Rig) -> None:
    """The sweeper settles what another worker lost."""
    task = await rig.pushed()
    lease = await rig.lease(worker="gone")
    reply = await rig.step(rig.settlement(lease, Lost()), want=0, worker="keeper")
    assert not reply.refused
    assert await rig.state(task) is State.QUEUED


async def test_settlements_may_belong_to_queues_the_step_does_not_serve(rig: Rig) -> None:
    task = await rig.pushed(queue="elsewhere")
    lease = await rig.lease(queues=["elsewhere"])
    reply = await rig.step(rig.settlement(lease, ok()), queues=["q"])
    assert not reply.refused
    assert await rig.state(task) is State.SUCCEEDED


async def test_many_settlements_of_many_kinds_in_one_step(rig: Rig) -> None:
    tasks = [rig.task(queue=f"q{index % 2}", max_attempts=2) for index in range(60)]
    await rig.push(*tasks)
    await rig.worker()
    queues = ["q0", "q1"]
    leases = (await rig.step(want=100, queues=queues)).leases
    outcomes: list[Outcome] = [
        ok(),
        failure(delay=5),
        failure(final=True),
        Interrupted(),
        Snoozed(5),
        Released(),
    ]
    settlements = [rig.settlement(lease, outcomes[index % 6]) for index, lease in enumerate(leases)]
    assert not (await rig.step(*settlements, want=0, queues=queues)).refused
    assert await rig.counts() == {
        State.SUCCEEDED: 10,
        State.FAILED: 10,
        State.SCHEDULED: 20,
        State.QUEUED: 20,
    }
    assert await rig.is_healthy()


async def test_a_large_result_comes_back_whole(rig: Rig) -> None:
    task = await rig.pushed()
    blob = bytes(range(256)) * 1_000
    await rig.settle(await rig.lease(), ok(blob))
    final = await rig.final(task)
    assert final is not None
    assert codec.decode(final.result or b"") == blob


async def test_a_scheduled_transition_without_delay_is_due_at_once(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    transition = Transition(State.SCHEDULED, Counters(attempts=1), delay=0.0, error=BOOM)
    await rig.step(Settlement(lease, transition), want=0)
    assert await rig.waiting_ids() == [task.id]
