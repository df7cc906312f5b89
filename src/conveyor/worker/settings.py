"""What a worker is told: one value, made by the command line, passed down to every process."""

from __future__ import annotations

import msgspec

from conveyor.brokers.base import LEASE_SECONDS


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a worker. All durations are seconds."""

    target: str = ""
    """`MODULE:APP`, imported by the children only; empty for an engine in the caller's process."""
    url: str | None = None
    """Broker URL in place of the app's own."""
    queues: tuple[str, ...] = ()
    """Queues to serve, in this order; empty: every queue."""
    weights: dict[str, int] = {}
    """How often a queue is the first one looked at, against the others; 1 where none is given."""
    reserved: dict[str, int] = {}
    """Slots of each child process that are kept for tasks of a queue."""
    concurrency: int = 32
    """Tasks that run at a time in each child process."""
    processes: int = 1
    """Child processes."""
    burst: bool = False
    """End when nothing is left to do."""
    born: float = 0.0
    """When the worker started, epoch seconds; filled in by the supervisor."""
    reload: bool = False
    """Restart the children when a Python file below the current directory changes."""
    keeper: bool = True
    """Do the housekeeping and rescue of lost tasks too."""
    lease: float = LEASE_SECONDS
    renew_every: float = 5.0
    shutdown_grace: float = 25.0
    """What running tasks get to end in peace on SIGTERM."""
    kill_grace: float = 5.0
    """What stopped code gets to clean up before it is killed or fenced."""
    deaf_after: float = 30.0
    """A child that has free slots and made no step for so long is restarted."""
    stalled_after: float = 5.0
    """A child whose event loop stands still for so long gets a warning that names its tasks."""
    log_level: str = "INFO"
