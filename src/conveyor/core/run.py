"""A run of a workflow, as it is stored beside its graph."""

from __future__ import annotations

import msgspec

from conveyor.core.advance import Keys
from conveyor.core.task import Pause, State

RUNNING = "running"
EMPTY = b"\x80"


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What changes of a run: little, and seldom. The graph does not change, and how its nodes
    ended is in tallies.
    """

    id: str
    """UUIDv7: sorts by when it was enqueued."""
    name: str
    created_at: float
    status: str = RUNNING
    """running, succeeded, failed or cancelled."""
    finished_at: float | None = None
    counts: dict[str, int] = {}
    """How its nodes ended, once it is over."""
    inputs: bytes = EMPTY
    cancel: Pause | None = None
    """Who cancelled it, when and why."""
    generations: dict[int, int] = {}
    """Nodes that were started anew, and how often."""
    reruns: dict[int, tuple[int, ...]] = {}
    """Mapped nodes of which only some children were started anew: the generations before, the
    oldest first, whose other children count."""
    parent: str | None = None
    """Id of the task that waits for it, when it is a sub-workflow."""

    @property
    def is_over(self) -> bool:
        """Whether all its nodes have ended."""
        return self.status != RUNNING

    @property
    def epoch(self) -> int:
        """How often it was taken up again after its end."""
        return max(self.generations.values(), default=0)

    @property
    def flow(self) -> str:
        """What its tasks carry as `terms.flow`."""
        return f"{self.id}/{self.epoch}" if self.epoch else self.id

    @property
    def keys(self) -> Keys:
        """The names of its tallies."""
        return Keys(self.id, self.generations)


def parse_flow(flow: str) -> tuple[str, int]:
    """Split `terms.flow` into the run's id and its epoch."""
    run_id, _, epoch = flow.partition("/")
    return run_id, int(epoch or 0)


def encode(run: Run) -> bytes:
    """Return the run as bytes."""
    return msgspec.msgpack.encode(run)


decode = msgspec.msgpack.Decoder(Run).decode

STATE_OF = {
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}
