"""The invariants of lanes and slots.

L1: every task that waits in a lane is found by a step, now or when its gate opens. L2: a slot is
held by a running task, or by one of a line that is not final yet. L3: no limit is exceeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from conveyor.brokers.redis.describing import Sight
from conveyor.brokers.redis.listing import RUNNING, all_ids, look_at
from conveyor.brokers.redis.records import asking
from conveyor.brokers.redis.server import Command
from conveyor.brokers.redis.store import Store, pairs
from conveyor.core.gates import Gate
from conveyor.core.task import State

_PAGE = 1_000
_LOOKS = 500
Wrong = dict[tuple[str, str], set[bytes]]


class _Slot(NamedTuple):
    gate: bytes
    id: bytes
    since: float


class _Gates(NamedTuple):
    """What holds for all queues that share these gates."""

    slots: list[_Slot]
    """Those that tasks of the queue have; `others` counts those of other queues, by gate."""
    others: dict[bytes, int]
    tuned: dict[bytes, bytes]


async def check_lanes(store: Store, queue: str) -> Wrong:
    """Return what is wrong with the lanes of a queue and with the slots its tasks have."""
    wrong: Wrong = {}
    lost, forgotten = await _census(store, queue)
    wrong["L1", "wait in a lane in which no step finds them"] = lost
    wrong["L1", "wait at a gate that admits them, and nobody wakes them"] = forgotten
    gates = await _gates(store, queue)
    running = await all_ids(store, queue, [RUNNING])
    sights = await _sights(store, queue, running | {slot.id for slot in gates.slots})
    held = {(slot.gate, slot.id) for slot in gates.slots}
    wrong["L2", "have a slot and do not run"] = {
        slot.id for slot in gates.slots if not _may_hold(sights.get(slot.id), slot.gate)
    }
    wrong["L2", "run without the slot they should have"] = {
        key
        for key in running & sights.keys()
        if sights[key].state is State.RUNNING
        and any((gate.id.encode(), key) not in held for gate in _slot_gates(sights[key]))
    }
    wrong["L3", "run though their limit is exceeded"] = set(_beyond(gates, sights))
    return {what: ids for what, ids in wrong.items() if ids}


async def _census(store: Store, queue: str) -> tuple[set[bytes], set[bytes]]:
    lost: set[bytes] = set()
    forgotten: set[bytes] = set()
    cursor = b"0"
    while True:
        page = store.on_queue("census", queue, cursor, _PAGE)
        cursor, *found = await store.ask_one(page)
        lost.update(found[0])
        forgotten.update(found[1])
        if cursor == b"0":
            return lost, forgotten


async def _gates(store: Store, queue: str) -> _Gates:
    root = store.root(queue)
    shared = store.shared(root)
    busy, tuned = await store.ask(
        Command(root, ("SMEMBERS", shared + b"busy")), Command(root, ("HGETALL", shared + b"tuned"))
    )
    replies = await store.ask(
        *(
            Command(root, ("ZRANGE", shared + b"slots:" + gate, 0, -1, "WITHSCORES"))
            for gate in busy
        )
    )
    slots: list[_Slot] = []
    others: dict[bytes, int] = {}
    for gate, flat in zip(busy, replies, strict=True):
        for member, since in pairs(flat).items():
            if member[16:] == root:
                slots.append(_Slot(gate, member[:16], float(since)))
            else:
                others[gate] = others.get(gate, 0) + 1
    return _Gates(slots, others, pairs(tuned))


async def _sights(store: Store, queue: str, ids: set[bytes]) -> dict[bytes, Sight]:
    listed = sorted(ids)
    sights: dict[bytes, Sight] = {}
    for start in range(0, len(listed), _LOOKS):
        looks = await look_at(store, dict.fromkeys(listed[start : start + _LOOKS], queue))
        sights |= {key: Sight(look) for key, look in looks.items()}
    return sights


def _slot_gates(sight: Sight) -> list[Gate]:
    terms = asking(sight.task)
    return [] if terms is None else [gate for gate in terms.gates if gate.rate <= 0]


def _may_hold(sight: Sight | None, gate_id: bytes) -> bool:
    if sight is None or sight.state.is_final:
        return False
    mine = [gate for gate in _slot_gates(sight) if gate.id.encode() == gate_id]
    return any(sight.state is State.RUNNING or gate.line for gate in mine)


def _beyond(gates: _Gates, sights: dict[bytes, Sight]) -> Iterator[bytes]:
    """Yield those who were leased later than their limit was tuned, beyond the most that any of
    them allows.
    """
    by_gate: dict[bytes, list[_Slot]] = {}
    for slot in gates.slots:
        if slot.id in sights:
            by_gate.setdefault(slot.gate, []).append(slot)
    for gate_id, slots in by_gate.items():
        _, most, at = gates.tuned.get(gate_id.partition(b"\n")[0], b"- - 0").split(b" ")
        carried = [
            gate.most
            for slot in slots
            for gate in _slot_gates(sights[slot.id])
            if gate.id.encode() == gate_id
        ]
        allowed = max(carried, default=0) if most == b"-" else int(most)
        if gates.others.get(gate_id, 0) and most == b"-":
            # Tasks of another queue may carry a larger number: that queue counts for itself.
            continue
        fresh = sorted((slot for slot in slots if slot.since > int(at)), key=lambda s: s.since)
        yield from (slot.id for slot in fresh[allowed:])
