"""A queue as a plain machine of dictionaries: what every broker must be indistinguishable from.

Only where the contract leaves a store a choice does the model leave one too: a due task may be
promoted already or not yet (`Record.is_due`), and a worker without tasks may be swept or not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from conveyor.brokers.base import RETENTION_SECONDS, Pushed, Settlement
from conveyor.core.task import UNTOUCHED, Counters, NewTask, State, Task

DEAD = {State.FAILED, State.CANCELLED}


@dataclass
class Record:
    """A task and what became of it."""

    task: Task
    state: State
    execution: int = 0
    counters: Counters = UNTOUCHED
    due_at: float = 0.0
    available: tuple[float, float] = (0.0, 0.0)
    """When it last became queued: not before, not after."""
    parked: bool = False
    flagged: bool = False
    told: bool = False
    """Whether its worker has heard of the cancellation."""
    worker: str = ""
    result: bytes | None = None
    finished_at: float | None = None
    numbers: list[int] = field(default_factory=list)
    """Numbers of the executions on record."""

    @property
    def key(self) -> tuple[str, str, str] | None:
        """What is unique, if it has a key."""
        task = self.task
        return None if task.key is None else (task.queue, task.name, task.key)

    def is_due(self, now: float) -> bool:
        """Whether it is scheduled and due, so that the store may show it as queued already."""
        return self.state is State.SCHEDULED and self.due_at <= now

    def queue_at(self, earliest: float, latest: float) -> None:
        """Make it wait."""
        self.state, self.worker, self.available = State.QUEUED, "", (earliest, latest)

    def finish(self, state: State, now: float) -> None:
        """End it."""
        self.state, self.finished_at, self.worker = state, now, ""
        self.parked = False


@dataclass
class Worker:
    """A worker's lease."""

    until: float
    swept: bool | None = False
    """None: the store may have swept it, as it held nothing."""


class Model:
    """The queue. Verbs have the names of the broker's and change the records."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.records: dict[str, Record] = {}
        self.keys: dict[tuple[str, str, str], str] = {}
        self.workers: dict[str, Worker] = {}
        self.paused: set[str] = set()

    def push(self, new: NewTask) -> Pushed:
        """Store one task; return the answer."""
        task = new.task
        if task.id in self.records:
            return Pushed(task.id)
        record = Record(task, State.SCHEDULED)
        if record.key is not None:
            owner = self.keys.setdefault(record.key, task.id)
            if owner != task.id:
                other = self.records[owner].task.digest != task.digest
                return Pushed(owner, created=False, conflict=other)
        self.records[task.id] = record
        if new.delay:
            record.due_at = self.now + new.delay
        else:
            record.queue_at(self.now, self.now)
        return Pushed(task.id)

    def settle(self, settlement: Settlement) -> bool:
        """End one execution; say whether it was accepted."""
        lease, transition = settlement.lease, settlement.transition
        record = self.records.get(lease.task.id)
        if record is None or not self.is_current(lease.task.id, lease.execution):
            return False
        if settlement.execution is not None:
            record.numbers.append(lease.execution)
        record.counters = transition.counters
        if transition.to.is_final:
            record.result = transition.result
            record.finish(transition.to, self.now)
        elif record.flagged:
            record.finish(State.CANCELLED, self.now)
        elif transition.to is State.SCHEDULED:
            record.state, record.worker = State.SCHEDULED, ""
            record.due_at = self.now + transition.delay
        else:
            record.queue_at(self.now, self.now)
            record.parked = transition.parked
        return True

    def is_current(self, task_id: str, execution: int) -> bool:
        """The fence: whether the task runs under exactly this number."""
        record = self.records.get(task_id)
        return (
            record is not None and record.state is State.RUNNING and record.execution == execution
        )

    def promote(self, queues: Iterable[str] | None = None) -> None:
        """Queue what is due, in these queues or all."""
        for record in self.records.values():
            if record.is_due(self.now) and (queues is None or record.task.queue in queues):
                record.queue_at(record.due_at, self.now)

    def waiting(self, queue: str) -> list[Record]:
        """What a step may lease from this queue."""
        if queue in self.paused:
            return []
        return [
            record
            for record in self.records.values()
            if record.task.queue == queue and record.state is State.QUEUED and not record.parked
        ]

    def adoptable(self, names: Sequence[str], queues: Sequence[str]) -> list[Record]:
        """What a worker that knows these names may adopt."""
        return [
            record
            for record in self.records.values()
            if record.parked
            and record.state is State.QUEUED
            and record.task.name in names
            and record.task.queue in queues
            and record.task.queue not in self.paused
        ]

    def lease(self, record: Record, worker: str) -> None:
        """Give the task to a worker."""
        record.state, record.worker, record.parked = State.RUNNING, worker, False
        record.execution += 1
        record.flagged = record.told = False

    def is_live(self, worker: str) -> bool:
        """Whether the worker's lease is good now."""
        known = self.workers.get(worker)
        return known is not None and not known.swept and known.until > self.now

    def running(self, worker: str) -> set[str]:
        """Ids of the tasks a worker holds."""
        return {
            one
            for one, record in self.records.items()
            if record.state is State.RUNNING and record.worker == worker
        }

    def renew(self, worker: str, seconds: float, *, alive: bool) -> None:
        """Take note of a renewal and its answer, which must be a possible one."""
        known = self.workers.setdefault(worker, Worker(0.0))
        assert known.swept is None or known.swept is not alive, (worker, known, alive)
        if alive:
            known.until, known.swept = self.now + seconds, False
        else:
            known.swept = True

    def sweep(self) -> set[str]:
        """Mark the workers whose lease is over; return the ids of what they hold."""
        found: set[str] = set()
        for token, worker in self.workers.items():
            if worker.until <= self.now or worker.swept:
                held = self.running(token)
                found |= held
                if not worker.swept:
                    worker.swept = True if held else None
        return found

    def grace(self, seconds: float) -> None:
        """Lengthen every lease that was not swept."""
        for worker in self.workers.values():
            if not worker.swept:
                worker.until += seconds

    def cancel(self, task_id: str) -> State | None:
        """Ask one task to stop; return its state, None when it is unknown."""
        record = self.records.get(task_id)
        if record is None:
            return None
        if record.state is State.RUNNING:
            record.flagged = True
        elif not record.state.is_final:
            record.finish(State.CANCELLED, self.now)
        return record.state

    def requeue(self, task_id: str) -> bool:
        """Revive one task; say whether that changed it (a due one may be queued already)."""
        record = self.records.get(task_id)
        if record is None or record.state not in {*DEAD, State.SCHEDULED}:
            return False
        earliest = record.due_at if record.is_due(self.now) else self.now
        if record.state in DEAD:
            record.counters, record.finished_at = UNTOUCHED, None
            record.flagged = record.told = False
        record.queue_at(earliest, self.now)
        return True

    def reschedule(self, task_id: str, delay: float) -> bool:
        """Let one task be due at another time; say whether it is scheduled."""
        record = self.records.get(task_id)
        if record is None or record.state is not State.SCHEDULED:
            return False
        record.due_at = self.now + delay
        return True

    def discard(self, task_id: str) -> bool:
        """Delete one dead letter; say whether it was one."""
        record = self.records.get(task_id)
        if record is None or record.state not in DEAD:
            return False
        self.forget(record)
        return True

    def forget(self, record: Record) -> None:
        """Delete a record and its key."""
        del self.records[record.task.id]
        if record.key is not None and self.keys.get(record.key) == record.task.id:
            del self.keys[record.key]

    def expired(self) -> list[Record]:
        """Records that a store may have pruned: succeeded or cancelled, a day ago."""
        return [
            record
            for record in self.records.values()
            if record.state is not State.FAILED and self.is_long_over(record)
        ]

    def free_keys(self) -> None:
        """Let go of the keys whose task ended a day ago; after a tidy the store has, too."""
        for key, owner in list(self.keys.items()):
            if self.is_long_over(self.records[owner]):
                del self.keys[key]

    def is_long_over(self, record: Record) -> bool:
        """Whether the task ended a day ago."""
        return record.finished_at is not None and (
            record.finished_at + RETENTION_SECONDS <= self.now
        )
