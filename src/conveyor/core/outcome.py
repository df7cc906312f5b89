"""What an execution ended in. Each outcome carries only what the decision needs."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from conveyor.core.task import ErrorInfo


class Succeeded(msgspec.Struct, frozen=True):
    """User code returned; `result` is its value as MessagePack."""

    name: ClassVar[str] = "succeeded"
    result: bytes


class Committed(msgspec.Struct, frozen=True):
    """User code returned, and that is stored already, in one transaction with its own rows."""

    name: ClassVar[str] = "committed"
    result: bytes


class Failed(msgspec.Struct, frozen=True):
    """User code raised. `final` means another attempt cannot help; `delay` is a wait the
    exception itself or the policy asked for (seconds), in place of the backoff.
    """

    name: ClassVar[str] = "failed"
    error: ErrorInfo
    final: bool = False
    delay: float | None = None


class TimedOut(msgspec.Struct, frozen=True):
    """The execution ran longer than the task's timeout (seconds) and was stopped or fenced."""

    name: ClassVar[str] = "timed_out"
    error: ErrorInfo


class Snoozed(msgspec.Struct, frozen=True):
    """User code asked to run again after `delay` seconds. Costs no attempt."""

    name: ClassVar[str] = "snoozed"
    delay: float


class Rejected(msgspec.Struct, frozen=True):
    """User code, or the decoding of its arguments, said that no attempt can ever succeed."""

    name: ClassVar[str] = "rejected"
    error: ErrorInfo


class Cancelled(msgspec.Struct, frozen=True):
    """The task was stopped because someone cancelled it."""

    name: ClassVar[str] = "cancelled"


class Interrupted(msgspec.Struct, frozen=True):
    """The worker stopped it to shut down or because its lease ran out. Costs no attempt."""

    name: ClassVar[str] = "interrupted"


class Released(msgspec.Struct, frozen=True):
    """Leased but never started, and given back. Costs nothing, leaves no execution record."""

    name: ClassVar[str] = "released"


class Unroutable(msgspec.Struct, frozen=True):
    """The worker that leased it does not know its name. Parked until one that does is live."""

    name: ClassVar[str] = "unroutable"


class Struck(msgspec.Struct, frozen=True):
    """Leased but held back by a strike, for `delay` seconds. Costs nothing, leaves no record."""

    name: ClassVar[str] = "struck"
    delay: float
    reason: str


class Crashed(msgspec.Struct, frozen=True):
    """The process that ran it died under a living supervisor. `alone` when it had that process
    to itself, so that nothing else can have been the cause.
    """

    name: ClassVar[str] = "crashed"
    error: ErrorInfo
    alone: bool = False


class Lost(msgspec.Struct, frozen=True):
    """The whole worker went silent until its lease ran out."""

    name: ClassVar[str] = "lost"


Outcome = (
    Succeeded
    | Committed
    | Failed
    | TimedOut
    | Snoozed
    | Rejected
    | Cancelled
    | Interrupted
    | Released
    | Unroutable
    | Struck
    | Crashed
    | Lost
)
