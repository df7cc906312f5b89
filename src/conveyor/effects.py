"""Effects outside of the queue, such as a mail, that must not happen twice.

    async with effect("smtp", recipient) as sending:
        if sending.needed:
            sending.value = await send(recipient)

Before the block an intent is stored, after it the outcome. A retry skips what has an outcome. When
a crash left an intent without one, nobody knows whether it happened: the task is *in doubt*, and
the policy says what follows. Nothing makes a foreign system exactly-once but its own idempotency;
this makes sure that a doubt is seen, and never resolved by sending again blindly.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec

from conveyor.context import current_task
from conveyor.core.codec import decode, encode
from conveyor.core.effect import IN_DOUBT, POLICIES, EffectRecord, EffectState, Verdict, judge
from conveyor.core.errors import BrokerError, InDoubt, InvalidOption, StaleExecution, TaskNotFound
from conveyor.core.options import stored_text

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.documents import Document, Documents

__all__ = ["Effect", "EffectInfo", "effect", "effects_of", "resolve"]

T = TypeVar("T")
Policy = Literal["hold", "skip", "resend"]
Check = Callable[[], Awaitable[bool] | bool]
KIND = "effect"
_LONGEST = 200
_PAUSES = (0.1, 0.3, 1.0, 3.0)
"""Seconds between tries to store an outcome: it is worth more than the time."""
_unpack = msgspec.msgpack.Decoder(EffectRecord).decode
_pack = msgspec.msgpack.Encoder().encode


class EffectInfo(msgspec.Struct, frozen=True):
    """An effect of a task as it stands."""

    name: str
    key: str
    state: EffectState
    execution: int
    at: float
    value: Any = None


class Effect:
    """One effect of the running task. Made by `effect()`; enter it with `async with`, or from a
    function in a thread or process with `with`.
    """

    def __init__(
        self, name: str, key: str, policy: Policy | Check, refused: tuple[type[BaseException], ...]
    ) -> None:
        task = current_task()
        self._app: Conveyor = task.app
        self._execution = task.fencing_token
        self._id = f"{task.id}/{_part(name)}/{_part(key)}"
        self._who = f"effect {name!r} for {key!r}"
        self._policy = policy
        self._refused = refused
        self._version = 0
        self.needed = False
        """Whether the block has to do it; else `value` is what was stored before."""
        self.value: Any = None
        """The outcome: set it in the block to have it in every later attempt."""

    async def once(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await the function if the effect is needed; return its value, now or as stored."""
        async with self:
            if self.needed:
                self.value = await function(*args)
        value: T = self.value
        return value

    async def __aenter__(self) -> Self:
        """Store the intent, or find out why not. Raises `InDoubt`, `StaleExecution`."""
        found = await self._read()
        record = None if found is None else _unpack(found.body)
        self._version = 0 if found is None else found.version
        verdict = judge(record, self._execution)
        if verdict is Verdict.DOUBT:
            verdict = await self._resolve_doubt()
        if verdict is Verdict.STALE:
            raise self._stale()
        if verdict is Verdict.SKIP:
            if record is not None and record.state is EffectState.HAPPENED:
                self.value = decode(record.value)
            return self
        await self._store(EffectState.INTENDED)
        self.needed = True
        return self

    async def __aexit__(
        self, _kind: object, exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Store the outcome. An exception leaves the doubt, unless it is one of `refused`."""
        if not self.needed:
            return
        if exc is None:
            await self._insist(encode(self.value, what=f"the outcome of {self._who}"))
        elif isinstance(exc, self._refused):
            await (await self._documents()).delete(KIND, self._id, self._version)

    def __enter__(self) -> Self:
        """Do what `async with` does, from synchronous code."""
        self._app.run_sync(self.__aenter__())
        return self

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do what `async with` does, from synchronous code."""
        self._app.run_sync(self.__aexit__(kind, exc, trace))

    async def _resolve_doubt(self) -> Verdict:
        policy = self._policy
        if callable(policy):
            happened = policy()
            if inspect.isawaitable(happened):
                happened = await happened
            if happened:
                await self._store(EffectState.HAPPENED)
            return Verdict.SKIP if happened else Verdict.DO
        if policy == "skip":
            await self._store(EffectState.HAPPENED)
            return Verdict.SKIP
        if policy == "resend":
            return Verdict.DO
        raise InDoubt(
            f"{IN_DOUBT}: {self._who} was begun by an execution that did not live to say how it "
            "ended; find out, and decide with `conveyor effects decide` or conveyor.effects.resolve"
        )

    async def _insist(self, value: bytes) -> None:
        """The effect has happened: store that, whatever the broker says at first."""
        for pause in (*_PAUSES, None):
            try:
                await self._store(EffectState.HAPPENED, value)
            except BrokerError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                return

    async def _store(self, state: EffectState, value: bytes = b"\xc0") -> None:
        record = EffectRecord(self._execution, state, self._app.clock.time(), value)
        documents = await self._documents()
        stored = await documents.put(KIND, self._id, _pack(record), self._version)
        if stored is not None:
            self._version = stored
            return
        # Either somebody else wrote, or it was this very write, whose reply was lost.
        found = await self._read()
        if found is None or not _same(_unpack(found.body), record):
            raise self._stale()
        self._version = found.version

    async def _read(self) -> Document | None:
        found = await (await self._documents()).get(KIND, [self._id])
        return found.get(self._id)

    async def _documents(self) -> Documents:
        return (await self._app.client()).broker.documents

    def _stale(self) -> StaleExecution:
        return StaleExecution(f"{self._who}: another execution of the task has taken it over")


def effect(
    name: str,
    key: object = "",
    *,
    policy: Policy | Check = "hold",
    refused: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Effect:
    """Return an effect of the running task: its kind (`name`) and what it is done to (`key`).

    `policy` says what an execution does that finds one begun and not ended: `"hold"` makes the task
    a dead letter with the flag `in_doubt`; `"skip"` takes it as done, with the value None;
    `"resend"` does it again; a function (async or not) is asked whether it happened. `refused` are
    exceptions that prove that nothing happened, such as a refused connection: a retry does it
    again. Every other exception leaves the doubt. Raises `NotInTask`, `InvalidOption`.
    """
    if not callable(policy) and policy not in POLICIES:
        raise InvalidOption(f"policy={policy!r}: {', '.join(POLICIES)}, or a function")
    kinds = refused if isinstance(refused, tuple) else (refused,)
    return Effect(stored_text(name, "name"), stored_text(str(key), "key"), policy, kinds)


async def effects_of(app: Conveyor, task_id: str) -> list[EffectInfo]:
    """Return the effects on record for a task."""
    documents = (await app.client()).broker.documents
    found = await documents.list(KIND, f"{task_id}/")
    return [_info(one) for one in found if one.id.startswith(f"{task_id}/")]


async def resolve(
    app: Conveyor,
    task_id: str,
    name: str | None = None,
    key: object = None,
    *,
    happened: bool,
    value: Any = None,
    requeue: bool = True,
) -> list[EffectInfo]:
    """Decide what became of the effects of a task that are in doubt (of `name` and `key` only, when
    given), and requeue it. One that `happened` is skipped from then on, with `value`; one that did
    not is done anew. Returns what was decided. Raises `TaskNotFound` when nothing is in doubt.
    """
    broker = (await app.client()).broker
    decided = []
    for one in await broker.documents.list(KIND, f"{task_id}/"):
        owner, of_name, of_key = one.id.split("/", 2)
        record = _unpack(one.body)
        asked = name in {None, of_name} and (key is None or of_key == _part(str(key)))
        if owner != task_id or record.state is not EffectState.INTENDED or not asked:
            continue
        state = EffectState.HAPPENED if happened else EffectState.CLEARED
        body = EffectRecord(record.execution, state, app.clock.time(), encode(value, what="value"))
        if await broker.documents.put(KIND, one.id, _pack(body), one.version) is not None:
            decided.append(EffectInfo(of_name, of_key, state, record.execution, body.at, value))
    if not decided:
        raise TaskNotFound(task_id)
    if requeue:
        await broker.requeue([task_id])
    return decided


def _info(document: Document) -> EffectInfo:
    _, name, key = document.id.split("/", 2)
    record = _unpack(document.body)
    return EffectInfo(name, key, record.state, record.execution, record.at, decode(record.value))


def _same(one: EffectRecord, other: EffectRecord) -> bool:
    return (one.execution, one.state, one.value) == (other.execution, other.state, other.value)


def _part(text: str) -> str:
    """A part of a document's id: one that is long becomes its hash."""
    plain = text.replace("/", "_")
    if len(plain) <= _LONGEST:
        return plain
    return f"{plain[:100]}~{hashlib.sha256(text.encode()).hexdigest()[:32]}"
