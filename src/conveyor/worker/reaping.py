"""What becomes of the leases of a child process that is gone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from conveyor.brokers.base import Holding, Settlement, Step
from conveyor.core.outcome import Crashed, Interrupted, Lost, Released
from conveyor.core.task import ErrorInfo
from conveyor.keeper.verdicts import Judge

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.worker.board import Started
    from conveyor.worker.spawn import Exit

log = logging.getLogger("conveyor.worker")
BATCH = 1_000


class Blame(StrEnum):
    """Who ended the child."""

    TASKS = "tasks"
    """It died by itself: what it was running may be the cause."""
    US = "us"
    """It was stopped, or the engine failed: no task is to blame."""


class Death(msgspec.Struct, frozen=True):
    """A dead child: how it ended, who ended it, and what it was running."""

    token: str
    exit: Exit
    blame: Blame
    started: Collection[Started]
    versions: Mapping[str, str]
    """Code version of its definitions, by name."""


async def settle_death(
    broker: Broker, death: Death, *, clock: Clock, dice: Callable[[], float]
) -> int:
    """Settle everything the dead child still held, then end its lease; returns how many tasks.

    Raises `BrokerError`; may be tried again, for what was settled is not held any more.
    """
    settled = 0
    while holdings := await broker.held(death.token, BATCH):
        settlements = decide_all(death, holdings, now=clock.time(), dice=dice)
        reply = await broker.step(Step(death.token, (), 0, settlements))
        settled += len(settlements) - len(reply.refused)
        if len(holdings) < BATCH:
            break
    await broker.renew([death.token], 0)
    return settled


def decide_all(
    death: Death, holdings: Collection[Holding], *, now: float, dice: Callable[[], float]
) -> list[Settlement]:
    """Say what becomes of each held task (contract D12): a started one may be the cause of the
    death, one in a process of its own is not, one never started has nothing to do with it.
    """
    started = {(task_id, execution): alone for task_id, execution, alone in death.started}
    judge = Judge(now=now, dice=dice, versions=death.versions)
    settlements = []
    for holding in holdings:
        alone = started.get((holding.lease.task.id, holding.lease.execution))
        settlements.append(judge.settle(holding, _outcome(death, alone)))
    return settlements


def _outcome(death: Death, alone: bool | None) -> Crashed | Interrupted | Lost | Released:
    if alone is None:
        return Released()
    if death.blame is Blame.US:
        return Interrupted()
    if alone:
        return Lost()
    others = sum(not own for _, _, own in death.started) - 1
    return Crashed(crash_error(death.exit, others))


def crash_error(exit_: Exit, others: int = 0) -> ErrorInfo:
    """Describe the death of the process that ran a task, beside `others` more."""
    beside = f", which also ran {others} other task{'s' * (others > 1)}," if others > 0 else ""
    return ErrorInfo("conveyor.WorkerCrashed", f"its process{beside} {exit_}")
