"""What a child and the processes of its pool say to each other."""

from __future__ import annotations

import msgspec

from conveyor.core.outcome import Committed, Failed, Outcome, Rejected, Snoozed, Succeeded
from conveyor.core.task import Lease, Progress

Reportable = Succeeded | Committed | Failed | Snoozed | Rejected
_OUTCOMES: dict[str, type[Reportable]] = {
    kind.name: kind for kind in (Succeeded, Committed, Failed, Snoozed, Rejected)
}


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message to a process of the pool."""

    target: str
    url: str | None
    parent: int
    """Process id of the child it belongs to."""
    log_level: str


class Job(msgspec.Struct, frozen=True, tag=True):
    """Run this task."""

    lease: Lease


ToProcess = Setup | Job


class Waiting(msgspec.Struct, frozen=True, tag=True):
    """The app is imported and its resources are open: send a job."""


class Unusable(msgspec.Struct, frozen=True, tag=True):
    """The process cannot run tasks of this app."""

    message: str


class News(msgspec.Struct, frozen=True, tag=True):
    """Progress and log lines of the job so far."""

    progress: Progress | None
    lines: tuple[str, ...]


class Ending(msgspec.Struct, frozen=True, tag=True):
    """It was told to end, and was here in the task's code then: frames of a traceback."""

    place: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The other side asks the job for less: limits that adapt slow down."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """What the job ended in, with its last news. `body` is the outcome's fields."""

    outcome: str
    body: msgspec.Raw
    progress: Progress | None
    lines: tuple[str, ...]


FromProcess = Waiting | Unusable | News | Ending | Refused | Done

decode_to_process = msgspec.msgpack.Decoder(ToProcess).decode
decode_from_process = msgspec.msgpack.Decoder(FromProcess).decode


def done(outcome: Outcome, progress: Progress | None, lines: tuple[str, ...]) -> Done:
    """Pack an outcome that user code can end in."""
    return Done(outcome.name, msgspec.Raw(msgspec.msgpack.encode(outcome)), progress, lines)


def outcome_of(message: Done) -> Outcome:
    """Unpack it."""
    kind = _OUTCOMES[message.outcome]
    outcome: Outcome = msgspec.msgpack.decode(message.body, type=kind)
    return outcome
