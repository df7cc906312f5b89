"""What is on record of an effect outside of the queue, and what follows from it. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

POLICIES = ("hold", "skip", "resend")
IN_DOUBT = "in doubt"
"""How the reason of a task begins that was held."""


class EffectState(StrEnum):
    """How far an effect came."""

    INTENDED = "intended"
    HAPPENED = "happened"
    CLEARED = "cleared"
    """Somebody who knows said that it did not happen."""


class EffectRecord(msgspec.Struct, frozen=True, array_like=True):
    """What is stored of one effect of one task."""

    execution: int
    """The execution that wrote it: a lower one may not change it any more."""
    state: EffectState
    at: float
    value: bytes = b"\xc0"
    """What the block gave as its outcome, as MessagePack."""


class Verdict(StrEnum):
    """What an execution that comes to an effect has to do."""

    DO = "do"
    SKIP = "skip"
    """It happened: take the value that is on record."""
    STALE = "stale"
    DOUBT = "doubt"
    """It was begun, and nobody knows how it ended."""


def judge(record: EffectRecord | None, execution: int) -> Verdict:
    """Say what the record means to an execution."""
    if record is None:
        return Verdict.DO
    if record.execution > execution:
        return Verdict.STALE
    if record.state is EffectState.HAPPENED:
        return Verdict.SKIP
    return Verdict.DO if record.state is EffectState.CLEARED else Verdict.DOUBT
