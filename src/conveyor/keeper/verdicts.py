"""The settlement of an execution that cannot speak for itself any more. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from conveyor.brokers.base import Holding, Settlement
from conveyor.core.lifecycle import LOST_ERROR, decide
from conveyor.core.outcome import Crashed, Interrupted, Lost, Released
from conveyor.core.task import ErrorInfo, Execution


class Judge:
    """Makes settlements for tasks whose process or host is gone.

    `now` is epoch seconds; `dice` spreads retries; `versions` tells the code version that ran a
    definition, by its name, as far as it is known.
    """

    def __init__(
        self, *, now: float, dice: Callable[[], float], versions: Mapping[str, str] | None = None
    ) -> None:
        self._now = now
        self._dice = dice
        self._versions = versions or {}

    def settle(
        self, holding: Holding, outcome: Crashed | Interrupted | Lost | Released
    ) -> Settlement:
        """Say what becomes of a held task, with the record of its last execution: the logs are
        those of its last note. One that never started leaves no record.
        """
        lease = holding.lease
        transition = decide(lease, outcome, dice=self._dice())
        if isinstance(outcome, Released):
            return Settlement(lease, transition)
        record = Execution(
            lease.execution,
            lease.attempt,
            outcome.name,
            lease.worker,
            lease.leased_at,
            max(0.0, self._now - lease.leased_at),
            self._versions.get(lease.task.name, ""),
            _error(outcome),
            holding.note.logs if holding.note is not None else (),
            transition.delay or None,
        )
        return Settlement(lease, transition, record)


def _error(outcome: Crashed | Interrupted | Lost) -> ErrorInfo | None:
    if isinstance(outcome, Crashed):
        return outcome.error
    return LOST_ERROR if isinstance(outcome, Lost) else None
