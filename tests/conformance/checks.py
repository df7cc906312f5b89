"""The invariants I1-I7, I9 and I11: what a broker shows, held against the model."""

from collections import Counter
from collections.abc import Sequence

from conveyor.brokers.base import Broker, Filter, StepReply
from conveyor.core.task import SECONDS_PER_LEVEL, Lease, State, TaskInfo
from tests.conformance.model import Model, Record


async def check_store(broker: Broker, model: Model) -> None:
    """Everything that must hold after each step."""
    await _check_health(broker, model)
    listed = await broker.inspector.tasks(Filter(limit=10_000))
    _check_conservation(listed, model)
    for info in listed:
        _check_state(info, model.records[info.id], model.now)
    _check_counts(await broker.inspector.counts(), listed)
    await _check_finals(broker, model)


async def _check_health(broker: Broker, model: Model) -> None:
    """I9 is the keeper's to keep: only what it has not rescued yet may be reported."""
    overdue = {
        one
        for one, record in model.records.items()
        if record.state is State.RUNNING and not model.is_live(record.worker)
    }
    for violation in await broker.inspector.check():
        assert violation.invariant.startswith("I9"), violation
        assert set(violation.ids) <= overdue, violation


def _check_conservation(listed: Sequence[TaskInfo], model: Model) -> None:
    """I1: what was enqueued is there, once, by id."""
    ids = [info.id for info in listed]
    assert ids == sorted(ids, reverse=True)
    assert Counter(ids) == Counter(model.records.keys())


def _check_state(info: TaskInfo, record: Record, now: float) -> None:
    """I2, I3, I4: the state and numbers are those of the accepted settlements, no other."""
    possible = {record.state}
    if record.is_due(now):
        possible.add(State.QUEUED)
    assert info.state in possible, (info, record)
    assert info.execution == record.execution, (info, record)
    assert info.attempts == record.counters.attempts, (info, record)
    assert (info.finished_at is not None) == info.state.is_final
    assert ("unroutable" in info.flags) == record.parked, (info, record)
    assert ("cancelling" in info.flags) == (record.flagged and info.state is State.RUNNING)
    if info.state is State.RUNNING:
        assert info.worker == record.worker


def _check_counts(counts: dict[State, int], listed: Sequence[TaskInfo]) -> None:
    """I11: the counters shown are those of the rows."""
    shown = {state: number for state, number in counts.items() if number}
    assert shown == Counter(info.state for info in listed)


async def _check_finals(broker: Broker, model: Model) -> None:
    """I5: a result if and only if it succeeded (results outlive these runs by their time to live,
    unless a day passes).
    """
    finals = await broker.finals(list(model.records))
    over = {one for one, record in model.records.items() if record.state.is_final}
    assert set(finals) == over
    for one, final in finals.items():
        record = model.records[one]
        assert final.state is record.state
        expected = record.result if record.state is State.SUCCEEDED else None
        if not model.is_long_over(record):
            assert final.result == expected


async def check_touched(broker: Broker, model: Model, ids: Sequence[str]) -> None:
    """I3: executions are append-only, in the order of their numbers."""
    for one in dict.fromkeys(ids):
        if one in model.records:
            info = await broker.inspector.get(one)
            assert [execution.number for execution in info.executions] == (
                model.records[one].numbers
            )


async def check_holdings(broker: Broker, model: Model, worker: str) -> None:
    """I6: a running task has exactly one lease, of the worker that the model says."""
    holdings = await broker.held(worker)
    assert Counter(holding.lease.task.id for holding in holdings) == Counter(model.running(worker))
    for holding in holdings:
        record = model.records[holding.lease.task.id]
        check_lease(holding.lease, record)
        assert holding.lease.cancel_requested == record.flagged


def check_lease(lease: Lease, record: Record) -> None:
    """A lease is of the task that was pushed, with its next number and what it has used up."""
    assert lease.task == record.task
    assert lease.execution == record.execution
    assert lease.counters == record.counters
    assert lease.worker == record.worker


def check_cancels(reply_cancels: Sequence[str], model: Model, worker: str, ended: set[str]) -> None:
    """D15: each cancellation is told, to the worker that runs the task and to no other. What
    `ended` in the same step may be told or not.
    """
    cancels = set(reply_cancels)
    flagged = {one for one in model.running(worker) if model.records[one].flagged}
    untold = {one for one in flagged if not model.records[one].told}
    assert cancels <= flagged | ended
    if model.is_live(worker):
        assert untold <= cancels, (untold, reply_cancels)
    for one in cancels & flagged:
        model.records[one].told = True


def check_claim(
    reply: StepReply, model: Model, worker: str, queues: Sequence[str], want: int
) -> None:
    """D19: as many as wanted and there, from the first queue first, in the order of the credit."""
    leases = list(reply.leases)
    if not model.is_live(worker):
        assert leases == []
        return
    for queue in queues:
        if want and queue not in model.paused:
            model.promote([queue])
        waiting = model.waiting(queue)
        number = min(want, len(waiting))
        taken, leases = leases[:number], leases[number:]
        want -= number
        claimed = [model.records[lease.task.id] for lease in taken]
        assert all(record in waiting for record in claimed), (queue, reply.leases)
        _check_order(claimed, waiting)
        for lease, record in zip(taken, claimed, strict=True):
            model.lease(record, worker)
            check_lease(lease, record)
            assert not lease.cancel_requested
    assert leases == []


def _check_order(claimed: Sequence[Record], waiting: Sequence[Record]) -> None:
    """Nobody is served while someone surely earlier waits."""
    left = list(waiting)
    for record in claimed:
        left.remove(record)
        assert all(not _surely_before(other, record) for other in left), (record, left)


def _surely_before(one: Record, other: Record) -> bool:
    credit = SECONDS_PER_LEVEL * (one.task.priority - other.task.priority)
    return one.available[1] - credit < other.available[0]
