"""What people and running tasks do with limits, and what is known of them.

On one server all queues of a namespace share their gates. In a cluster each queue has its own (see
lua/_clock.lua): what is closed or tuned is so in every queue that exists by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, NamedTuple

import msgspec

from conveyor.brokers.gates import GateInfo, Standing
from conveyor.brokers.redis.records import encode, task_from, unpack_id
from conveyor.brokers.redis.server import Command
from conveyor.brokers.redis.store import Store, pairs
from conveyor.brokers.redis.wire import Argument
from conveyor.core.gates import Gate, GateState
from conveyor.core.task import Pause

_PAGE = 1_000
_HOLDERS = 100
_pause_from = msgspec.msgpack.Decoder(Pause).decode


class _Known(NamedTuple):
    """What one set of gates has written down, by gate id or by limit."""

    busy: set[bytes]
    tat: dict[bytes, float]
    shut: dict[bytes, float]
    why: dict[bytes, bytes]
    tuned: dict[bytes, bytes]


class RedisGates:
    """The limits of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def span_queues(self) -> bool:
        """See `Gates.span_queues`: on one server, yes."""
        return not self._store.link.spread

    async def reserve(self, gate: Gate) -> float:
        """See `Gates.reserve`; infinity, and nothing is taken, while it is closed without end. In a
        cluster reservations have a bucket of their own, that of the namespace.
        """
        return float(await self._store.ask_one(self._store.on_top("reserve", encode(gate))))

    async def close(
        self,
        limit: str,
        key: str | None,
        until: float | None,
        pause: Pause,
        *,
        extend: bool = False,
    ) -> None:
        """See `Gates.close`."""
        till = "inf" if until is None or until == inf else repr(float(until))
        field = _field(limit, key)
        earlier = await self._everywhere("close", field, till, encode(pause), "1" if extend else "")
        if any(earlier):
            await self._look_again(limit, key)

    async def open(self, limit: str, key: str | None) -> None:
        """See `Gates.open`."""
        await self._everywhere("close", _field(limit, key), "", "", "")
        await self._look_again(limit, key)

    async def tune(self, limit: str, *, rate: float | None = None, most: int | None = None) -> None:
        """See `Gates.tune`."""
        numbers = ("-" if rate is None else repr(float(rate)), "-" if most is None else most)
        await self._everywhere("tune", limit, *numbers)
        await self._look_again(limit, None)

    async def look(self, limit: str | None = None, most: int = 1_000) -> list[GateInfo]:
        """See `Gates.look`."""
        now = await self._store.time_ms() / 1000
        infos: dict[bytes, GateInfo] = {}
        for root in await self._scopes():
            known = await self._known(root, now)
            fields = known.busy | known.tat.keys() | known.shut.keys() | known.tuned.keys()
            wanted = sorted(
                {
                    field if b"\n" in field else field + b"\n"
                    for field in fields
                    if limit is None or field.partition(b"\n")[0] == limit.encode()
                },
                key=lambda field: field.partition(b"\n")[::2],
            )[:most]
            for info in await self._infos(root, wanted, known):
                field = _field(info.limit, info.key).encode()
                infos[field] = _both(infos[field], info) if field in infos else info
        found = sorted(infos.values(), key=lambda info: (info.limit, info.key))
        return [info for info in found if info.state != GateState()][:most]

    async def standing(self, task_ids: Sequence[str]) -> dict[str, Standing]:
        """See `Gates.standing`."""
        found = await self._store.find("standing", task_ids, pairs)
        now = await self._store.time_ms() / 1000
        known: dict[bytes, _Known] = {}
        standings: dict[str, Standing] = {}
        for task_id, (queue, (packed, ahead, exact)) in found.items():
            terms = task_from(packed).terms
            root = self._store.root(queue) if self._store.link.spread else self._store.top
            gates: list[GateInfo] = []
            if terms is not None and terms.gates:
                if root not in known:
                    known[root] = await self._known(root, now)
                fields = [gate.id.encode() for gate in terms.gates]
                gates = await self._infos(root, fields, known[root])
            standings[task_id] = Standing(
                now=now, ahead=ahead, ahead_is_exact=exact == 1, gates=tuple(gates)
            )
        return standings

    async def _scopes(self) -> list[bytes]:
        """Return what the keys of gates begin with, a colon aside; a cluster has many."""
        store = self._store
        if not store.link.spread:
            return [store.top]
        return [store.top, *(store.root(queue) for queue in await store.queue_names())]

    async def _everywhere(self, script: str, *args: Argument) -> list[Any]:
        store = self._store
        if not store.link.spread:
            return [await store.ask_one(store.on_top(script, *args))]
        queues = await store.queue_names()
        return await store.ask(
            store.on_top(script, *args),
            *(store.on_queue(script, queue, *args) for queue in queues),
        )

    async def _look_again(self, limit: str, key: str | None) -> None:
        """Let the lanes look that were refused by what is no more. A lane that is parked meanwhile
        was refused by what is now.
        """
        words = _field(limit, key) + "\n"
        store = self._store
        for queue in await store.queue_names():
            cursor = b"0"
            while True:
                page = store.on_queue("again", queue, cursor, _PAGE, words)
                cursor = await store.ask_one(page)
                if cursor == b"0":
                    break

    async def _known(self, root: bytes, now: float) -> _Known:
        plain = self._store.plain
        busy, tat, shut, why, tuned = await self._store.ask(
            plain("SMEMBERS", root, ":busy"),
            plain("ZRANGEBYSCORE", root, ":tat", f"({now!r}", "+inf", "WITHSCORES"),
            plain("ZRANGEBYSCORE", root, ":shut", f"({now!r}", "+inf", "WITHSCORES"),
            plain("HGETALL", root, ":why"),
            plain("HGETALL", root, ":tuned"),
        )
        in_use = {
            limit: words for limit, words in pairs(tuned).items() if not words.startswith(b"- - ")
        }
        return _Known(set(busy), _floats(tat), _floats(shut), pairs(why), in_use)

    async def _infos(self, root: bytes, fields: Sequence[bytes], known: _Known) -> list[GateInfo]:
        """Return gates, with what holds for the whole of their limits."""
        commands: list[Command] = []
        for field in fields:
            slots = root + b":slots:" + field
            commands.append(Command(root, ("ZCARD", slots)))
            commands.append(Command(root, ("ZRANGE", slots, 0, _HOLDERS - 1)))
        replies = await self._store.ask(*commands)
        return [
            _info(field, known, running, holders)
            for field, running, holders in zip(fields, replies[::2], replies[1::2], strict=True)
        ]


def _field(limit: str, key: str | None) -> str:
    return limit if key is None else Gate(limit, key).id


def _floats(flat: list[Any]) -> dict[bytes, float]:
    return {name: float(score) for name, score in pairs(flat).items()}


def _info(field: bytes, known: _Known, running: int, holders: Iterable[bytes]) -> GateInfo:
    limit, _, key = field.partition(b"\n")
    rate, most, *_ = known.tuned.get(limit, b"- -").split(b" ")
    closed = max((field, limit), key=lambda name: known.shut.get(name, 0.0))
    return GateInfo(
        limit=limit.decode(),
        key=key.decode(),
        state=GateState(
            tat=known.tat.get(field, 0.0),
            running=running,
            closed_until=known.shut.get(closed, 0.0),
            rate=None if rate == b"-" else float(rate),
            most=None if most == b"-" else int(most),
        ),
        holders=tuple(unpack_id(holder[:16]) for holder in holders),
        pause=_pause_from(known.why[closed]) if known.shut.get(closed) else None,
    )


def _both(one: GateInfo, other: GateInfo) -> GateInfo:
    """Return a gate of two queues of a cluster as one."""
    state = GateState(
        tat=max(one.state.tat, other.state.tat),
        running=one.state.running + other.state.running,
        closed_until=max(one.state.closed_until, other.state.closed_until),
        rate=one.state.rate if other.state.rate is None else other.state.rate,
        most=one.state.most if other.state.most is None else other.state.most,
    )
    holders = (*one.holders, *other.holders)[:_HOLDERS]
    return GateInfo(
        limit=one.limit,
        key=one.key,
        state=state,
        holders=holders,
        pause=one.pause or other.pause,
    )
