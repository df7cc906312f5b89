"""Verbs that name tasks by their ids: cancel, requeue, reschedule, discard, finals, annotate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from conveyor.brokers.base import Note
from conveyor.brokers.redis.records import (
    LETTERS,
    Cancellation,
    encode,
    pack_ids,
    raw,
    read_before,
    read_ending,
)
from conveyor.brokers.redis.store import Store, pairs, places
from conveyor.core.errors import TaskNotFound
from conveyor.core.task import Final, State


class Ending:
    """Verbs on tasks named by their ids."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def cancel(self, ids: Sequence[str], by: str, reason: str) -> dict[str, State]:
        """See `Broker.cancel`."""
        flag = encode(Cancellation(by, reason))
        found = await self._store.find("cancel", ids, pairs, flag)
        return {task_id: LETTERS[letter.decode()] for task_id, (_, letter) in found.items()}

    async def requeue(self, ids: Sequence[str], *, dead_only: bool) -> list[str]:
        """See `Broker.requeue`."""
        looks = await self._store.find("look", ids, pairs, "1")
        queues: dict[str, dict[str, tuple[Any, ...]]] = {}
        for task_id, (queue, look) in looks.items():
            letter = look[0].decode()
            if letter in ({"f", "c"} if dead_only else {"d", "f", "c"}):
                queues.setdefault(queue, {})[task_id] = _revival(task_id, letter, look)
        changed: set[str] = set()
        commands = [
            self._store.on_queue("requeue", queue, encode(list(mine.values())))
            for queue, mine in queues.items()
        ]
        replies = await self._store.ask(*commands, atomic=True)
        for mine, reply in zip(queues.values(), replies, strict=True):
            names = list(mine)
            changed.update(names[place - 1] for place in reply)
        return [task_id for task_id in dict.fromkeys(ids) if task_id in changed]

    async def reschedule(
        self, ids: Sequence[str], delay: float | None, due_at: float | None
    ) -> list[str]:
        """See `Broker.reschedule`."""
        later = round(1_000 * (delay or 0.0)) if due_at is None else ""
        at = "" if due_at is None else round(1_000 * due_at)
        found = await self._store.find("reschedule", ids, places, later, at)
        return [task_id for task_id in dict.fromkeys(ids) if task_id in found]

    async def discard(self, ids: Sequence[str]) -> list[str]:
        """See `Broker.discard`."""
        found = await self._store.find("discard", ids, places)
        return [task_id for task_id in dict.fromkeys(ids) if task_id in found]

    async def finals(self, ids: Sequence[str]) -> dict[str, Final]:
        """See `Broker.finals`."""
        found = await self._store.find("finals", ids, _read_finals)
        finals: dict[str, Final] = {}
        for task_id in ids:
            if task_id not in found:
                raise TaskNotFound(task_id)
            _, (now, letter, stored) = found[task_id]
            if letter:
                finals[task_id] = _final(task_id, LETTERS[letter], stored, now)
        return finals

    async def annotate(self, notes: Sequence[Note]) -> list[bool]:
        """See `Broker.annotate`."""
        queues: dict[str, list[int]] = {}
        for place, note in enumerate(notes):
            queues.setdefault(note.queue, []).append(place)
        commands = []
        for queue, mine in queues.items():
            keys = pack_ids([notes[place].id for place in mine])
            packed = [
                (raw(key), notes[place].execution, raw(encode(notes[place])))
                for key, place in zip(keys, mine, strict=True)
            ]
            commands.append(self._store.on_queue("annotate", queue, encode(packed)))
        stored = [False] * len(notes)
        for mine, reply in zip(
            queues.values(), await self._store.ask(*commands, atomic=True), strict=True
        ):
            for place, done in zip(mine, reply, strict=True):
                stored[place] = done == 1
        return stored


def _revival(task_id: str, letter: str, look: list[Any]) -> tuple[Any, ...]:
    """Return what lua/requeue.lua wants to know of a task."""
    (key,) = pack_ids([task_id])
    _, _, where, before, *_ = look
    if letter == "d":
        return raw(key), "", read_before(before)[0], ()
    _, ending = read_ending(where)
    digest = hashlib.sha1(where, usedforsecurity=False).hexdigest()
    executions = [raw(encode(execution)) for execution in ending.executions]
    return raw(key), digest, ending.number, executions


def _read_finals(reply: list[Any]) -> dict[int, tuple[float, str, bytes]]:
    now, flat = reply
    return {
        place: (int(now) / 1000, letter.decode(), stored)
        for place, letter, stored in zip(*[iter(flat)] * 3, strict=True)
    }


def _final(task_id: str, state: State, stored: bytes, now: float) -> Final:
    finished_at, ending = read_ending(stored)
    if state is State.SUCCEEDED:
        expired = now >= finished_at + ending.result_ttl
        return Final(task_id, state, result=None if expired else ending.result)
    return Final(task_id, state, error=ending.touched.error)
