"""The seam between the queue and a store: `Broker` (the hot verbs) and `Inspector` (read-only).

Contract for every implementation, proven by `conveyor.testing.conformance`:

- **One write decides.** A task's state changes only in `push`, `step`, `adopt`, `cancel`,
  `requeue`, `discard` and the promotion inside `step` and `tidy`. Each call is one atomic write
  (one transaction, one script): after a kill at any instant it happened whole or not at all.
- **Fencing.** The execution number of a task grows by one at every lease and is never reused. A
  settlement or note is accepted only if the task is running under exactly that number; else it
  is refused and changes nothing.
- **The broker's clock** (the server's; for SQLite the given clock) times leases and due times.
- **Idempotent pushes.** Pushing an id that is already known, in whatever state, is a no-op that
  answers `created`: a producer whose reply was lost may push again.
- **The order of a claim.** Within a queue, the waiting task with the smallest
  `available_at - 60 s x priority` first: strict by priority among tasks of the same minute, first
  come first served within a priority, and nobody starves because a task gains one level per
  minute of waiting. `available_at` is when it last became queued. Under concurrent claimers the
  order may be off by what is locked at that instant.
- **No lost wake-ups.** After a step that leased nothing, a task that becomes available rings the
  worker's bell (`listen`), or is found by the worker's own poll within a second.
- **Errors.** `BrokerUnavailable` when the store cannot be reached within 2 s or closed the
  connection; `BrokerFull` when it has no room; nothing else escapes for reasons of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from conveyor.brokers.documents import Documents, Tallies
from conveyor.brokers.gates import Gates
from conveyor.core.lifecycle import Transition
from conveyor.core.order import Mode
from conveyor.core.task import (
    Execution,
    Final,
    Lease,
    NewTask,
    Pause,
    Progress,
    State,
    TaskInfo,
)

LEASE_SECONDS = 15.0
RETENTION_SECONDS = 86_400.0
"""Keys and records of successes are kept this long after the end (contract D3, D20)."""
DEAD_RETENTION_SECONDS = 30 * 86_400.0
"""What `requeue` can revive, failed or cancelled, is kept this long (contract D28)."""


class Pushed(msgspec.Struct, frozen=True):
    """The answer for one pushed task. `created` is False when its key named an older task, whose
    id this is; `conflict` when that one had other arguments (nothing was stored).
    """

    id: str
    created: bool = True
    conflict: bool = False


class Settlement(msgspec.Struct, frozen=True):
    """The end of one execution, fenced by `lease.execution`.

    If the task's cancellation is on record and `transition.to` is queued or scheduled, the broker
    stores `cancelled` instead. `execution` is None for a lease that was never started: no record
    is kept. Final states are written with their result in the same commit.
    """

    lease: Lease
    transition: Transition
    execution: Execution | None = None


class Step(msgspec.Struct, frozen=True):
    """One beat of a worker: settle what ended, promote what is due, lease up to `want` more.

    `queues` are served in the order given: the first is drained before the next is looked at (the
    worker rotates them). Settlements may belong to any queue.
    """

    worker: str
    queues: Sequence[str]
    want: int
    settlements: Sequence[Settlement] = ()
    slots: int | None = None
    """At most so many gated tasks among them: they are leased for free slots only. None: `want`."""


class StepReply(msgspec.Struct, frozen=True):
    """What a step did: fresh leases in claim order; `refused`, the ids of settlements whose
    execution was superseded; `cancels`, ids this worker runs and should stop, each told once per
    request at least; `next_due`, seconds until the next scheduled task of these queues, if any
    (at most informative: it may be late by a second).
    """

    leases: Sequence[Lease] = ()
    refused: Sequence[str] = ()
    cancels: Sequence[str] = ()
    next_due: float | None = None


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself; shown by `conveyor workers`."""

    id: str
    host: str
    pid: int
    started_at: float
    queues: tuple[str, ...] = ()
    """Empty: every queue."""
    names: tuple[str, ...] = ()
    """Names of the task definitions it knows."""
    concurrency: int = 0
    running: int = 0
    stuck: int = 0
    """Threads that a timeout could not stop."""
    stale: int = 0
    """Writes that were refused because the execution was superseded."""
    rss: int = 0
    """Resident memory of its processes, bytes."""
    code_version: str = ""
    last_claim_at: float | None = None
    loop_lag: float = 0.0
    """Seconds that its event loop was late by, at most, in the last five."""
    mode: Mode = "working"
    """What orders have made of it."""
    lease_until: float | None = None
    """Filled in by the broker when listed."""


class Renewal(msgspec.Struct, frozen=True):
    """Whether the worker's lease is good for the asked time from now, and what it must stop.
    `alive` is False when the lease had already run out and been swept: its executions are lost.
    """

    alive: bool
    cancels: Sequence[str] = ()


class Note(msgspec.Struct, frozen=True):
    """Progress and captured logs of a running execution; replaces the note before it."""

    id: str
    queue: str
    execution: int
    progress: Progress | None = None
    logs: tuple[str, ...] = ()


class Holding(msgspec.Struct, frozen=True):
    """A running task as the broker sees it: its lease, with the last note of that execution."""

    lease: Lease
    note: Note | None = None


class Tidied(msgspec.Struct, frozen=True):
    """What one round of housekeeping did."""

    promoted: int = 0
    pruned: int = 0


class Broker(Protocol):
    """A store of tasks. One instance belongs to one event loop; every verb may be called from any
    task on it. See the module's docstring for what all verbs promise.
    """

    url: str
    """The URL without its password."""

    async def open(self) -> None:
        """Connect. Raises `BrokerUnavailable`, `SchemaMismatch`, `DurabilityUnmet`. SQLite makes
        its schema by itself; PostgreSQL wants `migrate` first.
        """

    async def close(self) -> None:
        """Let go of every connection, thread and socket. Safe to call twice."""

    async def migrate(self) -> list[str]:
        """Bring the schema to this version, safe beside running workers and other migrations;
        returns one line per change made (none when it was current).
        """

    async def push(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        """Store tasks, all or none of one call (conflicts and repeats aside), answers in order.
        A `unique` key that is held answers with its holder (`conflict` when the rule says raise),
        or takes a waiting holder's place, which is cancelled with a reason that names the new one;
        a debounced one is due `seconds` from now, but `longest` after its series began at most; if
        it does not replace, its holder is, if it is not due yet and would be earlier. A
        requeued dead letter takes its unique key back if nobody holds it. Calls larger than a
        thousand are cut into several atomic ones. Raises `EnqueueUnknown` when replies were lost
        three times within ten seconds.
        """

    async def step(self, step: Step) -> StepReply:
        """Settle, promote and lease in one round trip. Leases nothing from a paused queue, and
        nothing at all when the worker's own lease is not live (`renew` comes first).
        """

    async def adopt(
        self, worker: str, names: Sequence[str], queues: Sequence[str], want: int
    ) -> list[Lease]:
        """Lease up to `want` parked tasks whose names the worker knows. Cheap when none are."""

    async def renew(
        self, workers: Sequence[str], seconds: float, info: WorkerInfo | None = None
    ) -> dict[str, Renewal]:
        """Make the leases of these workers good for `seconds` from now, creating them on first
        use; 0 ends them at once (a clean goodbye). `info` updates the registry of workers.
        A lease that was swept cannot be renewed: `alive` is False, take a new worker token.
        """

    async def held(self, worker: str | None = None, limit: int = 1_000) -> list[Holding]:
        """Running tasks leased to `worker` (changes nothing); or with None, those of every worker
        whose lease is over, marking these workers swept so that they cannot renew any more. The
        caller decides what became of them and settles; until then they stay running.
        """

    async def grace(self, seconds: float) -> None:
        """After an outage or clock jump: lengthen all leases, to 2 × `seconds` from now at most."""

    async def cancel(
        self, ids: Sequence[str], *, by: str = "", reason: str = ""
    ) -> dict[str, State]:
        """Ask tasks to stop; returns the state after the call for each id that exists. Waiting ones
        are cancelled now; running ones are flagged, their workers told; final ones stay.
        """

    async def requeue(self, ids: Sequence[str], *, dead_only: bool = False) -> list[str]:
        """Give dead letters (failed or cancelled tasks) another life: queued now, counters at zero,
        history, key and execution numbers kept; a scheduled task is made due now, unless this is
        for the dead only. Returns the ids that changed.
        """

    async def reschedule(
        self, ids: Sequence[str], *, delay: float | None = None, due_at: float | None = None
    ) -> list[str]:
        """Let scheduled tasks be due at another time, sooner or later: `delay` seconds from the
        broker's now, or at `due_at`; a time that is past makes them due. All else of them stays,
        keys and limits included. Returns the ids that changed: those that wait in no schedule (any
        more) are left alone.
        """

    async def discard(self, ids: Sequence[str]) -> list[str]:
        """Delete dead letters for good. Returns the ids deleted; tasks in other states stay."""

    async def annotate(self, notes: Sequence[Note]) -> list[bool]:
        """Store progress and logs of running executions; False where the execution is stale."""

    async def finals(self, ids: Sequence[str]) -> dict[str, Final]:
        """What these tasks ended in; those still alive are absent. Raises `TaskNotFound` for an id
        that is neither alive nor kept.
        """

    async def pause(self, queue: str, pause: Pause | None) -> None:
        """Stop giving out tasks of `queue`, or with None give them out again and ring the bells.
        Survives restarts; enqueueing goes on.
        """

    async def tidy(self, limit: int = 1_000) -> Tidied:
        """Housekeeping: promote due tasks and ring for them, prune expired results, keys, events
        and records (at most `limit` of each kind a call). Never touches a living task.
        """

    async def lead(self, role: str, holder: str, seconds: float) -> float | None:
        """Take or keep the leadership of `role` for `seconds` (0 gives it up). Returns the
        broker's clock, or None when someone else holds it.
        """

    def listen(
        self, worker: str, queues: Sequence[str], ring: Callable[[], Any]
    ) -> AbstractAsyncContextManager[None]:
        """While entered, call `ring()` (on the loop, must not block) when the worker should step:
        tasks became available after an empty step, or a task it runs was cancelled. May ring for
        nothing. Reconnects by itself.
        """

    @property
    def inspector(self) -> Inspector:
        """The read-only view of this store."""

    @property
    def gates(self) -> Gates:
        """The limits of this store."""

    @property
    def documents(self) -> Documents:
        """Schedules, strikes, graphs: small shared facts."""

    @property
    def tallies(self) -> Tallies:
        """Fan-ins of workflows."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks to list; None means any. Newest first by id, and `before` is the cursor; or
    `oldest_first`, and `after` is."""

    states: tuple[State, ...] = ()
    queue: str | None = None
    name: str | None = None
    before: str | None = None
    limit: int = 100
    oldest_first: bool = False
    after: str | None = None


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as it stands."""

    name: str
    queued: int = 0
    scheduled: int = 0
    running: int = 0
    parked: int = 0
    oldest_wait: float | None = None
    """Seconds the longest-waiting queued task has been available (heads only)."""
    waits_since: float | None = None
    """When that began, epoch seconds: the same at every look."""
    pause: Pause | None = None
    by_priority: dict[int, int] = {}
    """Queued tasks by priority. Of Redis those of the plain line only: the rest of `queued` waits
    for limits; cancelled ones that nobody has passed over yet are in it."""


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One change of state, written with the change. `cursor` sorts and resumes."""

    cursor: str
    at: float
    id: str
    queue: str
    state: str
    execution: int = 0


class FinishedTask(msgspec.Struct, frozen=True):
    """A task that ended: all that is known of it, every execution included. `result` is MessagePack
    and set only when it succeeded and its result has not expired."""

    info: TaskInfo
    result: bytes | None = None


class Violation(msgspec.Struct, frozen=True):
    """A broken invariant, found by `doctor`."""

    invariant: str
    message: str
    ids: tuple[str, ...] = ()


class Inspector(Protocol):
    """Questions to a store. Never changes anything; may be a moment behind."""

    async def get(self, task_id: str) -> TaskInfo:
        """Everything known of one task. Raises `TaskNotFound`."""

    async def tasks(self, where: Filter) -> list[TaskInfo]:
        """Tasks matching `where`, without their executions, newest first."""

    async def counts(self) -> dict[State, int]:
        """Tasks by state, kept finished ones included, counted from the rows themselves."""

    async def queue_names(self) -> list[str]:
        """Names of all queues that ever got a task, sorted. Cheap: workers ask every second."""

    async def queues(self) -> list[QueueInfo]:
        """Every queue that has or had tasks, by name."""

    async def workers(self) -> list[WorkerInfo]:
        """Workers with a live lease."""

    async def finished(
        self, ids: Sequence[str], homes: Mapping[str, str] | None = None
    ) -> list[FinishedTask]:
        """Those of these tasks that are final now, in any order; others are left out. One round
        trip per thousand. `homes` (queues by id) spares stores that keep tasks by queue a search.
        """

    async def events(self, after: str = "", limit: int = 1_000) -> list[Event]:
        """Changes of state after a cursor, oldest first."""

    async def newest(self) -> str:
        """The cursor of the newest event, "" before the first: where a reader begins that wants to
        know of what is to come only."""

    async def missed(self, after: str) -> bool:
        """Whether events after this cursor may have been dropped already: asked after `events`, it
        says of what that returned whether it was all there was. True too for the cursor of a store
        that began anew.
        """

    async def check(self) -> list[Violation]:
        """Verify the invariants; an empty list is health."""
