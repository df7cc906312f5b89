"""L1: every broker does what the model does, whatever is done to it in whatever order.

CONVEYOR_EXAMPLES and CONVEYOR_STEPS ask for more of it.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from conveyor.brokers.base import Note, Settlement, Step
from conveyor.brokers.url import connect
from conveyor.core.errors import TaskNotFound
from conveyor.core.outcome import Lost, Outcome
from conveyor.core.task import Lease, NewTask, Pause
from conveyor.testing.conformance.rig import Capabilities, Rig, ok
from tests.conformance import checks
from tests.conformance.conftest import FreshStore
from tests.conformance.model import Model
from tests.conformance.moves import (
    DAY,
    DICE,
    LEASE_SECONDS,
    NAMES,
    QUEUES,
    Draft,
    Move,
    other_moves,
    seeds,
    worker_moves,
)

T = TypeVar("T")


class Machine(RuleBasedStateMachine):
    """Does to a broker and to the model the same, and compares."""

    fresh_store: FreshStore

    @initialize(batch=seeds)
    def start(self, batch: list[Draft]) -> None:
        self.context = self.fresh_store()
        url = self.context.__enter__()
        self.runner = asyncio.Runner()
        self.rig = Rig(lambda clock: connect(url, clock=clock), Capabilities())
        self.run(self.rig.start())
        self.brokers = [self.rig.broker, self.run(self.rig.another())]
        self.model = Model(self.rig.clock.time())
        self.tokens = ["w0", "w1", "w2"]
        self.leases: list[Lease] = []
        self.touched: list[str] = []
        self.last_push: list[NewTask] = []
        self.last_step: Step | None = None
        self.push(batch)
        for worker in range(3):
            self.renew(worker)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine."""
        return self.runner.run(work)

    def turn(self) -> Any:
        """Return the other connection each time: what one knows the other must not need."""
        self.brokers.reverse()
        return self.brokers[0]

    def pick(self, number: int) -> str:
        """Return the id of some task; of an unknown one now and then."""
        known = [*self.model.records, "00000000-0000-7000-8000-000000000000"]
        self.touched.append(known[number % len(known)])
        return self.touched[-1]

    # Few rules with many moves: Hypothesis leaves out whole rules, and a queue without workers
    # proves little.

    @rule(move=worker_moves)
    def work_on(self, move: Move) -> None:
        self._do(move)

    @rule(first=other_moves, then=worker_moves)
    def disturb_and_work_on(self, first: Move, then: Move) -> None:
        self._do(first)
        self._do(then)

    def _do(self, move: Move) -> None:
        verb, arguments = move
        getattr(self, verb)(**arguments)

    # Producers

    def push(self, batch: list[Draft]) -> None:
        self.last_push = [NewTask(self.rig.task(**draft), delay) for draft, delay in batch]
        self.push_again()

    def push_again(self) -> None:
        """Also what a producer does whose reply was lost."""
        if not self._is_recent(self.last_push):
            return
        expected = [self.model.push(new) for new in self.last_push]
        assert self.run(self.turn().push(self.last_push)) == expected
        self.touched += [new.task.id for new in self.last_push]

    def _is_recent(self, batch: Sequence[NewTask]) -> bool:
        # A retry comes within seconds: a store need not remember what it has pruned.
        return any(new.task.enqueued_at > self.model.now - 3_600 for new in batch)

    # Workers

    def work(
        self,
        worker: int,
        served: Sequence[str],
        want: int,
        ended: list[tuple[int, Outcome]],
        beats: bool,
    ) -> None:
        if beats:
            self.renew(worker)
        self.step(worker, served, want, ended)

    def finish(self, number: int, outcome: Outcome, worker: int) -> None:
        """End one of the latest executions, whoever runs it."""
        self.step(worker, QUEUES, 1, [(number, outcome)])

    def step(
        self, worker: int, served: Sequence[str], want: int, ended: list[tuple[int, Outcome]]
    ) -> None:
        # Of two ends of one execution in one step, which one counts is up to the store.
        chosen = {self._lease_number(number): outcome for number, outcome in ended}
        settlements = [
            self.rig.settlement(self._some_lease(number), outcome, dice=DICE)
            for number, outcome in chosen.items()
        ]
        self.last_step = Step(self.tokens[worker], served, want, settlements)
        self.step_again()

    def step_again(self) -> None:
        """Also what a worker does whose reply was lost."""
        if self.last_step is None:
            return
        step = self.last_step
        reply = self.run(self.turn().step(step))
        refused = [one.lease.task.id for one in step.settlements if not self._settle(one)]
        assert sorted(reply.refused) == sorted(refused)
        ended = {one.lease.task.id for one in step.settlements}
        checks.check_cancels(reply.cancels, self.model, step.worker, ended)
        checks.check_claim(reply, self.model, step.worker, step.queues, step.want)
        self._take(reply.leases)

    def _lease_number(self, number: int) -> int:
        return number % max(1, len(self.leases))

    def _some_lease(self, number: int) -> Lease:
        """Return a lease from the latest to the oldest, so that most of them are current."""
        if not self.leases:
            return Lease(self.rig.task(), 1, worker="w0")
        return self.leases[-1 - self._lease_number(number)]

    def _settle(self, settlement: Settlement) -> bool:
        self.touched.append(settlement.lease.task.id)
        return self.model.settle(settlement)

    def _take(self, leases: Sequence[Lease]) -> None:
        self.leases += leases
        self.touched += [lease.task.id for lease in leases]

    def look_for_parked(
        self, worker: int, names: Sequence[str], served: Sequence[str], want: int
    ) -> None:
        self.renew(worker)
        self.adopt(worker, names, served, want)

    def adopt(self, worker: int, names: Sequence[str], served: Sequence[str], want: int) -> None:
        token = self.tokens[worker]
        leases = self.run(self.turn().adopt(token, names, served, want))
        possible = self.model.adoptable(names, served) if self.model.is_live(token) else []
        assert len(leases) == min(want, len(possible))
        for lease in leases:
            record = self.model.records[lease.task.id]
            assert record in possible
            self.model.lease(record, token)
            checks.check_lease(lease, record)
        self._take(leases)

    def renew(self, worker: int) -> None:
        token = self.tokens[worker]
        renewal = self.run(self.turn().renew([token], LEASE_SECONDS))[token]
        self.model.renew(token, LEASE_SECONDS, alive=renewal.alive)
        if renewal.alive:
            checks.check_cancels(renewal.cancels, self.model, token, set())
        else:
            self.tokens[worker] = f"{token}+"

    def watch(self, worker: int, number: int, stale: int) -> None:
        """Renew, note, list: what a worker does between its steps."""
        self.renew(worker)
        lease = self._some_lease(number)
        note = Note(lease.task.id, lease.task.queue, lease.execution - stale)
        expected = self.model.is_current(note.id, note.execution)
        assert self.run(self.turn().annotate([note])) == [expected]
        self.run(checks.check_holdings(self.turn(), self.model, self.tokens[worker]))

    # The keeper

    def keep(self, duty: str) -> None:
        if duty.startswith("sweep"):
            self.sweep(settle=duty == "sweep")
        elif duty == "tidy":
            self.tidy()
        else:
            self.run(self.turn().grace(LEASE_SECONDS))
            self.model.grace(LEASE_SECONDS)

    def sweep(self, *, settle: bool) -> None:
        """A keeper that dies before it settles leaves the tasks to be found again."""
        holdings = self.run(self.turn().held())
        assert {holding.lease.task.id for holding in holdings} == self.model.sweep()
        for holding in holdings:
            checks.check_lease(holding.lease, self.model.records[holding.lease.task.id])
        if settle:
            settlements = [
                self.rig.settlement(holding.lease, Lost(), dice=DICE) for holding in holdings
            ]
            reply = self.run(self.turn().step(Step("keeper", QUEUES, 0, settlements)))
            assert not reply.refused
            assert all(self._settle(settlement) for settlement in settlements)

    def tidy(self) -> None:
        due = sum(record.is_due(self.model.now) for record in self.model.records.values())
        assert self.run(self.turn().tidy()).promoted <= due
        self.model.promote()
        self._forget_the_pruned()

    # Operators

    def operate(self, verb: str, numbers: list[int]) -> None:
        ids = list(dict.fromkeys(self.pick(number) for number in numbers))
        getattr(self, f"_{verb}")(ids)

    def _cancel(self, ids: list[str]) -> None:
        states = {one: self.model.cancel(one) for one in ids}
        expected = {one: state for one, state in states.items() if state is not None}
        assert self.run(self.turn().cancel(ids, by="me", reason="test")) == expected

    def _requeue(self, ids: list[str]) -> None:
        ids = [one for one in ids if not self._lost_its_key(one)]
        due = {one for one, r in self.model.records.items() if r.is_due(self.model.now)}
        expected = {one for one in ids if self.model.requeue(one)}
        changed = set(self.run(self.turn().requeue(ids)))
        assert expected - due <= changed <= expected

    def _lost_its_key(self, one: str) -> bool:
        # Whether it gets the key back is up to the store.
        record = self.model.records.get(one)
        return record is not None and record.key is not None and self.model.is_long_over(record)

    def _reschedule(self, ids: list[str]) -> None:
        # One that is due may be queued already, or not: that is up to the store.
        due = {one for one, r in self.model.records.items() if r.is_due(self.model.now)}
        ids = [one for one in ids if one not in due]
        delay = 7.0 * len(ids)
        expected = [one for one in ids if self.model.reschedule(one, delay)]
        assert self.run(self.turn().reschedule(ids, delay=delay)) == expected

    def _discard(self, ids: list[str]) -> None:
        expected = {one for one in ids if self.model.discard(one)}
        assert set(self.run(self.turn().discard(ids))) == expected

    def pause(self, queue: str, paused: bool) -> None:
        pause = Pause("test", "me", self.model.now) if paused else None
        self.run(self.turn().pause(queue, pause))
        (self.model.paused.add if paused else self.model.paused.discard)(queue)

    # Time

    def wait(self, seconds: int) -> None:
        self.rig.clock.advance(seconds)
        self.model.now = self.rig.clock.time()

    def wait_a_day(self) -> None:
        """Finished records and keys may go; living tasks and dead letters stay."""
        self.wait(DAY)
        while self.run(self.turn().tidy()).pruned:
            pass
        self.model.promote()
        self.model.free_keys()
        self._forget_the_pruned()

    def _forget_the_pruned(self) -> None:
        for record in self.model.expired():
            try:
                self.run(self.turn().inspector.get(record.task.id))
            except TaskNotFound:
                self.model.forget(record)

    @invariant()
    def holds(self) -> None:
        touched, self.touched = self.touched, []
        self.run(checks.check_store(self.brokers[0], self.model))
        self.run(checks.check_touched(self.brokers[0], self.model, touched))

    # The end

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            if sys.exception() is None:
                self._finish_everything()
        finally:
            self.run(self.rig.stop())
            self.runner.close()
            self.context.__exit__(None, None, None)

    def _finish_everything(self) -> None:
        """I9: whatever happened, every living task can still be brought to its end."""
        for queue in QUEUES:
            self.pause(queue, False)
        self.wait(700)
        while any(map(self.model.is_live, self.model.workers)):
            self.wait(700)
        self.sweep(settle=True)
        self.tokens = ["last", "", ""]
        self.renew(0)
        while any(not record.state.is_final for record in self.model.records.values()):
            before = len(self.leases)
            self.step(0, QUEUES, 1_000, [])
            self.adopt(0, NAMES, QUEUES, 1_000)
            fresh = self.leases[before:]
            assert fresh, "some tasks are out of reach"
            self.step(0, QUEUES, 0, [(number, ok()) for number in range(len(fresh))])
        self.holds()


@pytest.mark.unmeasured
@pytest.mark.timeout(900)  # finding the shortest failing example takes its time
@pytest.mark.parametrize(
    "store",
    [pytest.param(s, marks=getattr(pytest.mark, s)) for s in ("sqlite", "postgres", "redis")],
)
@pytest.mark.slow
def test_a_broker_does_what_the_model_does(store: str, request: pytest.FixtureRequest) -> None:
    class OnThisStore(Machine):
        fresh_store = staticmethod(request.getfixturevalue(f"fresh_{store}"))

    run_state_machine_as_test(
        OnThisStore,
        settings=settings(
            max_examples=int(os.environ.get("CONVEYOR_EXAMPLES", "20")),
            stateful_step_count=int(os.environ.get("CONVEYOR_STEPS", "30")),
            derandomize=os.environ.get("CI") == "true",
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            report_multiple_bugs=False,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
        ),
    )
