"""What goes over the wire about workers."""

from __future__ import annotations

from datetime import datetime

import orjson
from pydantic import BaseModel, Field

from conveyor.workers import Action, Holding, Mode, Order, WorkerInfo
from conveyor_console.history.models import Worker
from conveyor_console.kit.moments import moment, since
from conveyor_console.kit.wire import Line, Strict

_AS_THEY_ARE = (
    "id",
    "host",
    "pid",
    "mode",
    "queues",
    "concurrency",
    "running",
    "stuck",
    "stale",
    "rss",
    "loop_lag",
    "code_version",
)


class OrderIn(Strict):
    """Why; it goes to the worker's log."""

    reason: Line = Field(default="", max_length=500)


class OrderOut(BaseModel):
    """What a worker was told and has not done yet: it will with its next heartbeat."""

    action: Action
    by: str
    reason: str
    at: datetime

    @classmethod
    def of(cls, order: Order) -> OrderOut:
        """Say it in terms of the API."""
        return cls(action=order.action, by=order.by, reason=order.reason, at=since(order.at))


class HeldTask(BaseModel):
    """A task that a worker has leased: it runs it, or is about to."""

    id: str
    name: str
    queue: str
    priority: int
    execution: int
    since: datetime
    cancelling: bool
    progress: float | None
    """From 0 to 1, as far as the task says so."""
    message: str

    @classmethod
    def of(cls, holding: Holding) -> HeldTask:
        """Say it in terms of the API."""
        lease, said = holding.lease, holding.note.progress if holding.note else None
        return cls(
            id=lease.task.id,
            name=lease.task.name,
            queue=lease.task.queue,
            priority=lease.task.priority,
            execution=lease.execution,
            since=since(lease.leased_at),
            cancelling=lease.cancel_requested,
            progress=said.done / said.total if said and said.total else None,
            message=said.message if said else "",
        )


class WorkerOut(BaseModel):
    """A worker: one child process of a supervisor."""

    id: str
    host: str
    pid: int
    mode: Mode
    order: OrderOut | None
    started_at: datetime
    queues: list[str]
    """Empty: every queue."""
    concurrency: int
    """Tasks that it runs at a time."""
    running: int
    stuck: int
    """Threads that a timeout could not stop."""
    stale: int
    """Writes that were refused because the execution was superseded."""
    rss: int
    """Resident memory of its processes, bytes."""
    loop_lag: float
    """Seconds that its event loop was late by, at most, in the last five."""
    last_claim_at: datetime | None
    lease_until: datetime | None
    code_version: str

    @classmethod
    def of(cls, info: WorkerInfo, order: Order | None) -> WorkerOut:
        """Say it in terms of the API."""
        return cls.model_validate(_plain(info, order))


class WorkerSeen(BaseModel):
    """A worker that lives or has lived, as it was last seen."""

    id: str
    """What `worker` of an execution names."""
    host: str
    pid: int
    queues: list[str]
    """Empty: every queue."""
    concurrency: int
    code_version: str
    started_at: datetime
    seen_at: datetime
    """Within a minute, while it lives."""

    @classmethod
    def of(cls, row: Worker) -> WorkerSeen:
        """Say it in terms of the API."""
        return cls(
            id=row.id,
            host=row.host,
            pid=row.pid,
            queues=orjson.loads(row.queues),
            concurrency=row.concurrency,
            code_version=row.code_version,
            started_at=since(row.started_at),
            seen_at=since(row.seen_at),
        )


class WorkerDetail(WorkerOut):
    """A worker with what it runs."""

    names: list[str]
    """Names of the task definitions that it knows."""
    tasks: list[HeldTask]
    """At most 200."""

    @classmethod
    def with_tasks(cls, info: WorkerInfo, order: Order | None, held: list[Holding]) -> WorkerDetail:
        """Say it in terms of the API."""
        tasks = [HeldTask.of(one) for one in held]
        return cls.model_validate({**_plain(info, order), "names": info.names, "tasks": tasks})


def _plain(info: WorkerInfo, order: Order | None) -> dict[str, object]:
    found: dict[str, object] = {name: getattr(info, name) for name in _AS_THEY_ARE}
    return found | {
        "order": OrderOut.of(order) if order else None,
        "started_at": since(info.started_at),
        "last_claim_at": moment(info.last_claim_at),
        "lease_until": moment(info.lease_until),
    }
