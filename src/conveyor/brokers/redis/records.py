"""Ids and records as they lie in Redis."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from conveyor.core.lifecycle import cancellation
from conveyor.core.task import UNTOUCHED, Counters, ErrorInfo, Execution, State, Task, Terms

LETTERS = {
    "q": State.QUEUED,
    "p": State.QUEUED,
    "d": State.SCHEDULED,
    "r": State.RUNNING,
    "s": State.SUCCEEDED,
    "f": State.FAILED,
    "c": State.CANCELLED,
    "k": State.SKIPPED,
}
"""The states as the scripts write them; p is parked."""
LETTER_OF = {
    State.QUEUED: "q",
    State.SCHEDULED: "d",
    State.SUCCEEDED: "s",
    State.FAILED: "f",
    State.CANCELLED: "c",
    State.SKIPPED: "k",
}


class Touched(msgspec.Struct, frozen=True, array_like=True):
    """What a task that was leased before has used up, and why it lives on. An untouched one is the
    empty array, which decodes to these defaults.
    """

    counters: Counters = UNTOUCHED
    error: ErrorInfo | None = None
    reason: str | None = None


class Cancellation(msgspec.Struct, frozen=True, array_like=True):
    """Who asked a task to stop, and why."""

    by: str = ""
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The reason as it is shown."""
        return cancellation(self.by, self.reason)


class Ending(msgspec.Struct, frozen=True, array_like=True):
    """How a task ended. The first five fields are packed here, the others appended by the script
    that ends it (lua/_finish.lua); a success at the first try is stored without them.
    """

    number: int
    """The last execution number; 0 for a task that never ran."""
    touched: Touched
    result: bytes | None
    execution: Execution | None
    result_ttl: float
    earlier: tuple[Execution, ...] = ()
    cancellation: Cancellation | None = None

    @property
    def executions(self) -> tuple[Execution, ...]:
        """All executions, in order."""
        return (*self.earlier, self.execution) if self.execution else self.earlier


encode = msgspec.msgpack.Encoder().encode
task_from = msgspec.msgpack.Decoder(Task).decode
tasks_from = msgspec.msgpack.Decoder(list[Task]).decode
touched_from = msgspec.msgpack.Decoder(Touched).decode
execution_from = msgspec.msgpack.Decoder(Execution).decode
cancellation_from = msgspec.msgpack.Decoder(Cancellation).decode
_ending_from = msgspec.msgpack.Decoder(Ending).decode


def read_ending(stored: bytes) -> tuple[float, Ending]:
    """Return when the task ended (epoch seconds), and how."""
    return int.from_bytes(stored[:6], "big") / 1000, _ending_from(stored[6:])


def read_before(stored: bytes) -> tuple[int, Touched]:
    """Return the last execution number of a living task, and what it has used up."""
    if not stored:
        return 0, Touched()
    number, _, touched = stored.partition(b" ")
    return int(number), touched_from(touched)


def read_hold(stored: bytes) -> tuple[int, float, str]:
    """Return the execution number, when it was leased (epoch seconds) and by which worker."""
    number, at, worker, *_ = stored.split(b" ", 3)
    return int(number), int(at) / 1000, worker.decode()


def raw(data: bytes) -> msgspec.Raw:
    """Return bytes as MessagePack's `str`: the `cmsgpack` of Redis does not know `bin`."""
    size = len(data)
    if size < 32:
        return msgspec.Raw(bytes((0xA0 + size,)) + data)
    if size < 65_536:
        return msgspec.Raw(b"\xda" + size.to_bytes(2, "big") + data)
    return msgspec.Raw(b"\xdb" + size.to_bytes(4, "big") + data)


def join_ids(ids: Sequence[str]) -> bytes:
    """Return ids as 16 bytes each, joined. Raises `ValueError` for what is no UUID."""
    joined = bytes.fromhex("".join(ids).replace("-", ""))
    if len(joined) != 16 * len(ids):
        raise ValueError("not a UUID")
    return joined


def split_ids(joined: bytes) -> list[bytes]:
    """Return the packed ids."""
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]


def pack_ids(ids: Sequence[str]) -> list[bytes]:
    """Return ids as 16 bytes each. Raises `ValueError` for what is no UUID."""
    return split_ids(join_ids(ids))


def pack_known(ids: Sequence[str]) -> dict[bytes, str]:
    """Return packed id -> id, leaving out what is no UUID and so cannot be stored here."""
    packed: dict[bytes, str] = {}
    for task_id in ids:
        try:
            (key,) = pack_ids([task_id])
        except ValueError:
            continue
        if unpack_id(key) == task_id:
            packed[key] = task_id
    return packed


def unpack_id(packed: bytes) -> str:
    """Return the canonical text of an id."""
    text = packed.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def key_field(name: str, key: str) -> bytes:
    """Return the one field for this pair; the length keeps `a` + `bc` apart from `ab` + `c`."""
    packed = name.encode()
    return b"%d:%s%s" % (len(packed), packed, key.encode())


def asking(task: Task) -> Terms | None:
    """Return the terms of a task if they ask for anything here: a lane, or a unique key."""
    terms = task.terms
    return terms if terms is not None and (terms.lane or terms.unique) else None


def ms(seconds: float) -> int:
    """Return whole milliseconds."""
    return round(seconds * 1000)
