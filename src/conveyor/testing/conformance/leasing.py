"""Worker leases: renewal, expiry, the sweep, grace (D6, D8, D25)."""

from __future__ import annotations

import pytest

from conveyor.brokers.base import LEASE_SECONDS, WorkerInfo
from conveyor.core.outcome import Lost
from conveyor.core.task import State
from conveyor.testing.conformance.rig import Rig, ids, ok


async def test_a_renewal_makes_the_lease_and_keeps_it(rig: Rig) -> None:
    await rig.pushed()
    assert (await rig.broker.renew(["w"], 15))["w"].alive
    for _ in range(5):
        rig.clock.advance(10)
        assert (await rig.broker.renew(["w"], 15))["w"].alive
    assert len((await rig.step()).leases) == 1


async def test_several_workers_are_renewed_in_one_call(rig: Rig) -> None:
    renewals = await rig.broker.renew(["a", "b", "c"], 15)
    assert set(renewals) == {"a", "b", "c"}
    assert all(renewal.alive and not renewal.cancels for renewal in renewals.values())
    assert await rig.broker.renew([], 15) == {}


async def test_a_worker_whose_lease_ran_out_leases_nothing(rig: Rig) -> None:
    await rig.worker(seconds=15)
    rig.clock.advance(16)
    await rig.pushed()
    assert not (await rig.step()).leases


async def test_a_late_renewal_is_accepted_until_the_sweep(rig: Rig) -> None:
    await rig.pushed()
    lease = await rig.lease()
    rig.clock.advance(LEASE_SECONDS + 5)
    assert (await rig.broker.renew(["w"], 15))["w"].alive
    assert await rig.broker.held() == []
    assert await rig.settle(lease, ok())


async def test_a_late_settlement_is_accepted_until_the_sweep_settled(rig: Rig) -> None:
    """The fence is the execution number: time alone refuses nothing."""
    task = await rig.pushed()
    lease = await rig.lease()
    rig.clock.advance(LEASE_SECONDS + 5)
    assert await rig.settle(lease, ok())
    assert await rig.broker.held() == []
    assert await rig.state(task) is State.SUCCEEDED


async def test_what_a_worker_holds_is_listed_and_left_alone(rig: Rig) -> None:
    tasks = [await rig.pushed() for _ in range(3)]
    leases = [await rig.lease() for _ in tasks]
    await rig.pushed()
    await rig.lease(worker="other")
    for _ in range(2):
        holdings = await rig.broker.held("w")
        assert sorted((h.lease for h in holdings), key=lambda lease: lease.task.id) == leases
        assert all(holding.note is None for holding in holdings)
    assert await rig.broker.held("nobody") == []
    assert (await rig.broker.renew(["w"], 15))["w"].alive


async def test_holdings_stop_at_the_limit(rig: Rig) -> None:
    await rig.push(*(rig.task() for _ in range(7)))
    await rig.waiting_ids()
    assert len(await rig.broker.held("w", limit=3)) == 3
    assert len(await rig.broker.held("w", limit=100)) == 7


async def test_the_sweep_finds_the_tasks_of_silent_workers_only(rig: Rig) -> None:
    lost, kept = await rig.pushed(), await rig.pushed()
    await rig.lease(worker="silent")
    rig.clock.advance(8)
    await rig.lease(worker="alive")
    assert await rig.broker.held() == []
    rig.clock.advance(LEASE_SECONDS - 8 + 0.5)
    (holding,) = await rig.broker.held()
    assert (holding.lease.task, holding.lease.worker) == (lost, "silent")
    assert await rig.state(kept) is State.RUNNING
    assert (await rig.broker.renew(["alive"], 15))["alive"].alive


async def test_swept_tasks_stay_running_and_are_found_again_until_settled(rig: Rig) -> None:
    """A keeper that dies between the sweep and the settlement loses nothing."""
    task = await rig.pushed()
    await rig.lease()
    rig.clock.advance(LEASE_SECONDS + 1)
    first = await rig.broker.held()
    assert await rig.state(task) is State.RUNNING
    assert await rig.broker.held() == first
    assert len(first) == 1
    rig.clock.advance(3_600)
    assert await rig.broker.held() == first
    await rig.settle(first[0].lease, Lost())
    assert await rig.broker.held() == []


async def test_a_swept_worker_cannot_come_back(rig: Rig) -> None:
    """D8: its executions are lost, so it must take a new token."""
    await rig.push(rig.task(), rig.task())
    await rig.lease(worker="silent")
    rig.clock.advance(LEASE_SECONDS + 1)
    assert len(await rig.broker.held()) == 1
    for _ in range(2):
        renewals = await rig.broker.renew(["silent", "fresh"], 15)
        assert (renewals["silent"].alive, renewals["fresh"].alive) == (False, True)
    assert not (await rig.step(worker="silent")).leases
    assert len((await rig.step(worker="fresh")).leases) == 1
    assert "silent" not in {worker.id for worker in await rig.broker.inspector.workers()}


async def test_a_lost_task_is_rescued_with_a_new_number_and_the_late_one_refused(rig: Rig) -> None:
    task = await rig.pushed(priority=9)
    late = await rig.lease(worker="paused")
    rig.clock.advance(LEASE_SECONDS + 1)
    (holding,) = await rig.broker.held()
    assert await rig.settle(holding.lease, Lost())
    await rig.pushed(priority=5)
    rescued = await rig.lease(worker="second")
    assert (rescued.task, rescued.execution) == (task, 2)
    assert not await rig.settle(late, ok("too late"))
    assert await rig.settle(rescued, ok("in time"))


async def test_the_swept_worker_may_settle_before_the_keeper_does(rig: Rig) -> None:
    """Both hold the same execution: whoever comes first wins, the other is refused."""
    task = await rig.pushed()
    lease = await rig.lease()
    rig.clock.advance(LEASE_SECONDS + 1)
    (holding,) = await rig.broker.held()
    assert await rig.settle(lease, ok())
    assert not await rig.settle(holding.lease, Lost())
    assert await rig.state(task) is State.SUCCEEDED


async def test_the_sweep_stops_at_the_limit_and_goes_on(rig: Rig) -> None:
    tasks = [rig.task() for _ in range(5)]
    await rig.push(*tasks)
    await rig.waiting_ids()
    rig.clock.advance(LEASE_SECONDS + 1)
    found: list[str] = []
    while holdings := await rig.broker.held(limit=2):
        assert len(holdings) <= 2
        found += [holding.lease.task.id for holding in holdings]
        for holding in holdings:
            await rig.settle(holding.lease, Lost())
    assert sorted(found) == sorted(ids(tasks))


async def test_a_goodbye_ends_the_lease_at_once(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.lease()
    await rig.broker.renew(["w"], 0)
    assert await rig.broker.inspector.workers() == []
    await rig.pushed()
    assert not (await rig.step()).leases
    (holding,) = await rig.broker.held()
    assert holding.lease.task == task


async def test_grace_lengthens_every_lease(rig: Rig) -> None:
    """D25: after an outage or a clock jump nobody is to blame, the late included."""
    await rig.push(rig.task(), rig.task())
    await rig.lease(worker="early")
    rig.clock.advance(LEASE_SECONDS + 1)
    await rig.lease(worker="late")
    await rig.broker.grace(LEASE_SECONDS)
    assert await rig.broker.held() == []
    rig.clock.advance(LEASE_SECONDS - 2)
    assert await rig.broker.held() == []
    assert (await rig.broker.renew(["early"], 15))["early"].alive
    rig.clock.advance(LEASE_SECONDS - 1)
    assert await rig.broker.held() == []
    rig.clock.advance(4)
    assert {h.lease.worker for h in await rig.broker.held()} == {"early", "late"}


async def test_grace_takes_back_what_a_clock_set_back_would_give_the_dead(rig: Rig) -> None:
    """D25: a lease that was made before would last for another hour."""
    await rig.pushed()
    await rig.lease()
    rig.clock.jump(-3_600)
    await rig.broker.grace(LEASE_SECONDS)
    rig.clock.advance(2 * LEASE_SECONDS - 1)
    assert await rig.broker.held() == []
    rig.clock.advance(2)
    assert len(await rig.broker.held()) == 1


async def test_grace_does_not_revive_the_swept(rig: Rig) -> None:
    await rig.pushed()
    await rig.lease()
    rig.clock.advance(LEASE_SECONDS + 1)
    assert len(await rig.broker.held()) == 1
    await rig.broker.grace(3_600)
    assert not (await rig.broker.renew(["w"], 15))["w"].alive
    assert len(await rig.broker.held()) == 1


async def test_a_clock_set_back_loses_nothing(rig: Rig) -> None:
    """D25: the wall clock is an hour early all of a sudden; work goes on."""
    task = await rig.pushed()
    rig.clock.jump(-3_600)
    lease = await rig.lease()
    assert lease.task == task
    assert await rig.settle(lease, ok())
    assert await rig.is_healthy()


async def test_the_registry_says_what_live_workers_say_of_themselves(rig: Rig) -> None:
    said = WorkerInfo(
        id="w",
        host="alpha",
        pid=42,
        started_at=rig.clock.time(),
        queues=("q", "mail"),
        names=("work", "mail.send"),
        concurrency=8,
        running=3,
        rss=1_000_000,
        code_version="abc",
    )
    await rig.broker.renew(["w"], 15, said)
    (listed,) = await rig.broker.inspector.workers()
    assert (listed.id, listed.host, listed.pid) == ("w", "alpha", 42)
    assert (listed.queues, listed.names) == (("q", "mail"), ("work", "mail.send"))
    assert (listed.concurrency, listed.running, listed.rss) == (8, 3, 1_000_000)
    assert listed.code_version == "abc"
    assert listed.lease_until == pytest.approx(rig.clock.time() + 15, abs=0.01)


async def test_a_renewal_without_words_keeps_the_last_ones(rig: Rig) -> None:
    said = WorkerInfo(id="w", host="alpha", pid=42, started_at=rig.clock.time())
    await rig.broker.renew(["w"], 15, said)
    rig.clock.advance(5)
    await rig.broker.renew(["w"], 15)
    (listed,) = await rig.broker.inspector.workers()
    assert (listed.id, listed.host) == ("w", "alpha")
    assert listed.lease_until == pytest.approx(rig.clock.time() + 15, abs=0.01)


async def test_workers_leave_the_registry_with_their_lease(rig: Rig) -> None:
    for token in ("a", "b"):
        said = WorkerInfo(id=token, host="alpha", pid=1, started_at=rig.clock.time())
        await rig.broker.renew([token], 15, said)
        rig.clock.advance(10)
    assert [worker.id for worker in await rig.broker.inspector.workers()] == ["b"]
    rig.clock.advance(10)
    assert await rig.broker.inspector.workers() == []
