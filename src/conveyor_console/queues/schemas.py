"""What goes over the wire about queues."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from conveyor.inspect import Pause, QueueInfo
from conveyor.limits import StatedLimit
from conveyor_console.kit.moments import since
from conveyor_console.kit.wire import Line, Strict


class QueuePauseIn(Strict):
    """Why it is paused; everybody sees it."""

    reason: Line = Field(default="", max_length=500)


class QueuePauseOut(BaseModel):
    """Who paused it, when and why."""

    reason: str
    by: str
    at: datetime

    @classmethod
    def of(cls, pause: Pause) -> QueuePauseOut:
        """Say it in terms of the API."""
        return cls(reason=pause.reason, by=pause.by, at=since(pause.at))


class LimitOfQueue(BaseModel):
    """A limit that tasks of the queue have, as their definitions state it."""

    name: str
    rate: str | None
    burst: float | None
    most: int | None
    keyed: bool
    adapts: bool
    tasks: list[str]

    @classmethod
    def of(cls, limit: StatedLimit) -> LimitOfQueue:
        """Say it in terms of the API."""
        return cls(
            name=limit.name,
            rate=limit.rate,
            burst=limit.burst,
            most=limit.most,
            keyed=limit.keyed,
            adapts=limit.adapts,
            tasks=list(limit.tasks),
        )


class QueueOut(BaseModel):
    """A queue as it stands."""

    name: str
    queued: int
    scheduled: int
    running: int
    parked: int
    """Queued, but no worker that lives knows their name."""
    by_priority: dict[int, int]
    """Queued tasks by priority. On Redis without those that wait for a limit."""
    oldest_wait: float | None
    """Seconds."""
    pause: QueuePauseOut | None

    @classmethod
    def of(cls, info: QueueInfo) -> QueueOut:
        """Say it in terms of the API."""
        return cls.model_validate(_plain(info))


class QueueDetail(QueueOut):
    """A queue with what bears on it."""

    limits: list[LimitOfQueue]
    workers: list[str]
    """Ids of the workers that serve it."""

    @classmethod
    def with_more(
        cls, info: QueueInfo, limits: list[LimitOfQueue], workers: list[str]
    ) -> QueueDetail:
        """Say it in terms of the API."""
        return cls.model_validate({**_plain(info), "limits": limits, "workers": workers})


def _plain(info: QueueInfo) -> dict[str, object]:
    names = ("name", "queued", "scheduled", "running", "parked", "by_priority", "oldest_wait")
    found: dict[str, object] = {name: getattr(info, name) for name in names}
    return found | {"pause": QueuePauseOut.of(info.pause) if info.pause else None}
