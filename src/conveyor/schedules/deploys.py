"""Schedules that code declares: published when a worker or keeper starts.

Old and new code run side by side during a deploy, and children of old workers start anew at any
time. So each scope (an app, as `MODULE:APP`) keeps a *deploy* document with the fingerprint of its
current declarations and of earlier ones:

- code that was never seen is newer than everything before it, and is published;
- code that was current once is published again only by a worker that started after the current
  code did (a rollback), else it is a leftover of the deploy and changes nothing.

What a published deploy does not declare any more is deleted, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from conveyor.core.errors import BrokerError, ScheduleNotFound
from conveyor.core.schedule import Schedule
from conveyor.schedules.book import DEPLOY, TRIES, Book, Kept, encode

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.brokers.documents import Documents

log = logging.getLogger("conveyor.schedules")
_HISTORY = 20
_replace = msgspec.structs.replace


class Deploy(msgspec.Struct, frozen=True):
    """The declarations of one scope that count."""

    fingerprint: str
    since: float
    """When the newest worker that published them started, epoch seconds."""
    earlier: tuple[str, ...] = ()
    done: bool = False
    """All of it is stored: else whoever starts next does it again."""


_deploy = msgspec.msgpack.Decoder(Deploy).decode


async def publish(
    broker: Broker, declared: Sequence[Schedule], *, scope: str, born: float, now: float
) -> bool:
    """Make the schedules of `scope` those that are declared, unless newer code has published its
    own; returns whether this code's are the current ones. `born` is when the worker started, `now`
    the time. May be called by many at once, killed anywhere, and again. Raises `BrokerError`.
    """
    book, wanted = Book(broker.documents), _stamped(declared, scope)
    whole = _digest(sorted((one.name, one.fingerprint) for one in wanted))
    number = await _claim(broker.documents, scope, whole, born, bool(declared))
    if number is None:
        return False
    if number == 0:
        return True
    kept = await book.all()
    for one in wanted:
        made = await _put(book, kept.get(one.name), one, number, now)
        if made and not await _is_current(broker.documents, scope, whole):
            # Newer code has looked for what to delete before this one was there.
            await _delete(book, one.name, scope, number + 1)
            return False
    ours = {name for name, found in kept.items() if found.schedule.scope == scope}
    for name in sorted(ours - {one.name for one in wanted}):
        if await _delete(book, name, scope, number):
            log.warning("schedule %r is not in the code of %s any more: deleted", name, scope)
    await book.touch()
    await _finish(broker.documents, scope, number)
    return True


def _stamped(declared: Sequence[Schedule], scope: str) -> list[Schedule]:
    """Return the declarations with their scope and fingerprints."""
    return [
        _replace(
            one,
            source="code",
            scope=scope,
            fingerprint=_digest(_replace(one, edited_at=0.0)),
        )
        for one in declared
    ]


def _digest(value: object) -> str:
    return blake2b(encode(value), digest_size=8).hexdigest()


async def _claim(
    documents: Documents, scope: str, whole: str, born: float, any_declared: bool
) -> int | None:
    """Become the scope's current deploy: returns its number, 0 when all is published already, None
    when newer code was."""
    while True:
        found = (await documents.get(DEPLOY, [scope])).get(scope)
        version = 0 if found is None else found.version
        if found is None:
            if not any_declared:
                return 0
            new = Deploy(whole, born)
        else:
            old = _deploy(found.body)
            if whole == old.fingerprint and old.done and born <= old.since:
                return 0
            if whole != old.fingerprint and whole in old.earlier and born <= old.since:
                log.info("newer code of %s has published its schedules: ours change nothing", scope)
                return None
            new = _after(old, whole, born)
        number = await documents.put(DEPLOY, scope, encode(new), version)
        if number is not None:
            return 0 if new.done else number


def _after(old: Deploy, whole: str, born: float) -> Deploy:
    since = max(old.since, born)
    if whole == old.fingerprint:
        return _replace(old, since=since)
    earlier = tuple(one for one in (*old.earlier, old.fingerprint) if one != whole)
    return Deploy(whole, since, earlier[-_HISTORY:])


async def _is_current(documents: Documents, scope: str, whole: str) -> bool:
    found = (await documents.get(DEPLOY, [scope])).get(scope)
    return found is not None and _deploy(found.body).fingerprint == whole


async def _delete(book: Book, name: str, scope: str, number: int) -> bool:
    """Delete a schedule if a deploy of its scope before `number` declared it last."""
    for _ in range(TRIES):
        try:
            kept = await book.get(name)
        except ScheduleNotFound:
            return False
        if kept.schedule.scope != scope or kept.schedule.deploy >= number:
            return False
        if await book.remove(kept):
            return True
    return False


async def _finish(documents: Documents, scope: str, number: int) -> None:
    found = (await documents.get(DEPLOY, [scope])).get(scope)
    if found is not None and found.version == number:
        done = _replace(_deploy(found.body), done=True)
        await documents.put(DEPLOY, scope, encode(done), number)


async def _put(book: Book, kept: Kept | None, one: Schedule, number: int, now: float) -> bool:
    """Store a declaration, unless a newer deploy of its scope was faster; returns whether there was
    none before."""
    for _ in range(TRIES):
        if kept is not None:
            old = kept.schedule
            if old.scope == one.scope and old.deploy > number:
                return False
            _tell(old, one)
        new = _merged(None if kept is None else kept.schedule, one, number, now)
        if await book.put(new, 0 if kept is None else kept.version):
            return kept is None
        try:
            kept = await book.get(one.name)
        except ScheduleNotFound:
            kept = None
    raise BrokerError(f"schedule {one.name!r} changes too fast to be published")


def _merged(old: Schedule | None, one: Schedule, number: int, now: float) -> Schedule:
    """What is stored: pauses outlive a deploy, other changes at run time until the code changes."""
    if old is None:
        return _replace(one, deploy=number, edited_at=now)
    if (old.scope, old.fingerprint) == (one.scope, one.fingerprint):
        return _replace(old, deploy=number)
    return _replace(one, deploy=number, edited_at=now, paused=old.paused)


def _tell(old: Schedule, one: Schedule) -> None:
    if old.source == "runtime":
        log.warning("schedule %r was made at run time; now the code declares it", one.name)
    elif old.scope != one.scope:
        log.warning(
            "schedule %r was declared by %s; now %s declares it", one.name, old.scope, one.scope
        )
