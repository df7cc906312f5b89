"""From outcomes to settlements: decides through the core, and keeps what was not stored yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from conveyor.brokers.base import Settlement, StepReply
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Committed, Crashed, Failed, Outcome, Rejected, Released, TimedOut
from conveyor.core.task import Execution, Lease

if TYPE_CHECKING:
    from conveyor.worker.executor import Run

log = logging.getLogger("conveyor.worker")
_ERRORS = (Failed, TimedOut, Rejected, Crashed)


class Completer:
    """The settlements of one worker, from an execution's end to the broker's answer."""

    def __init__(self, token: str, dice: Callable[[], float]) -> None:
        self._token = token
        self._dice = dice
        self.pending: list[Settlement] = []
        self.settled = 0
        self.stale = 0

    def ended(self, run: Run, outcome: Outcome, duration: float) -> None:
        """Settle a run with the record of its execution."""
        if isinstance(outcome, Committed):
            self.settled += 1
            return
        lines = run.context.log_lines
        execution = Execution(
            run.lease.execution,
            run.lease.attempt,
            outcome.name,
            self._token,
            run.started_at,
            duration,
            run.definition.code_version,
            outcome.error if isinstance(outcome, _ERRORS) else None,
            lines.lines() if lines is not None else (),
        )
        transition = decide(run.lease, outcome, dice=self._dice())
        if transition.delay:
            execution = msgspec.structs.replace(execution, retry_in=transition.delay)
        self.pending.append(Settlement(run.lease, transition, execution))

    def unstarted(self, lease: Lease, outcome: Outcome) -> None:
        """Settle a lease under which nothing ran."""
        self.pending.append(Settlement(lease, decide(lease, outcome, dice=self._dice())))

    def release(self, leases: Iterable[Lease]) -> None:
        """Give leases back."""
        for lease in leases:
            self.unstarted(lease, Released())

    def take(self) -> list[Settlement]:
        """Return what is pending, to be sent."""
        batch, self.pending = self.pending, []
        return batch

    def put_back(self, batch: Sequence[Settlement]) -> None:
        """The batch's fate is unknown: keep it until `reconcile` knows."""
        self.pending = [*batch, *self.pending]

    def answered(self, batch: Sequence[Settlement], reply: StepReply) -> None:
        """Count what was stored and what was refused."""
        self.settled += len(batch) - len(reply.refused)
        if reply.refused:
            self.stale += len(reply.refused)
            log.warning(
                "%d settlement(s) refused, their leases had passed on: %s",
                len(reply.refused),
                ", ".join(reply.refused[:3]),
            )

    def reconcile(self, held: Iterable[Lease]) -> None:
        """Forget settlements of executions that the broker no longer sees running: stored before
        the reply was lost, or superseded."""
        live = {(lease.task.id, lease.execution) for lease in held}
        self.pending = [
            entry for entry in self.pending if (entry.lease.task.id, entry.lease.execution) in live
        ]
