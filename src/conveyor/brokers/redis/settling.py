"""Settlements on their way to lua/_settle.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from conveyor.brokers.base import RETENTION_SECONDS, Settlement
from conveyor.brokers.redis.records import (
    LETTER_OF,
    asking,
    encode,
    join_ids,
    key_field,
    ms,
    raw,
    split_ids,
)
from conveyor.core.task import UNTOUCHED, State, Terms

Packed = tuple[bytes, ...]
"""ARGV[6] to ARGV[9] of lua/step.lua."""
_AT_A_TIME = 1_000
_SUCCEEDED = State.SUCCEEDED


def pack_settlements(settlements: Sequence[Settlement]) -> dict[str, Packed]:
    """Pack settlements by queue."""
    if not settlements:
        return {}
    queue = settlements[0].lease.task.queue
    if all(settlement.lease.task.queue == queue for settlement in settlements):
        return {queue: _pack(settlements)}
    queues: dict[str, list[Settlement]] = {}
    for settlement in settlements:
        queues.setdefault(settlement.lease.task.queue, []).append(settlement)
    return {queue: _pack(mine) for queue, mine in queues.items()}


def _pack(settlements: Sequence[Settlement]) -> Packed:
    joined = join_ids([settlement.lease.task.id for settlement in settlements])
    ids = split_ids(joined)
    if len(set(ids)) < len(ids):
        # Several ends of one execution: the first one counts, so the order has to be kept.
        return (encode(((), [_other(*entry) for entry in zip(ids, settlements, strict=True)])),)
    buckets: dict[bytes, list[tuple[bytes, Settlement]]] = {}
    others = []
    for entry in zip(ids, settlements, strict=True):
        task_id, settlement = entry
        if _is_plain(settlement):
            prefix = task_id[:4]
            if prefix in buckets:
                buckets[prefix].append(entry)
            else:
                buckets[prefix] = [entry]
        else:
            others.append(_other(task_id, settlement))
    return _pack_both(list(buckets.values()), others)


def _is_plain(settlement: Settlement) -> bool:
    """Whether this is a success of a first execution without a key."""
    lease, transition = settlement.lease, settlement.transition
    return (
        transition.to is _SUCCEEDED
        and lease.execution == 1
        and transition.counters is UNTOUCHED
        and lease.task.key is None
    )


def _pack_both(
    buckets: list[list[tuple[bytes, Settlement]]], others: list[tuple[Any, ...]]
) -> Packed:
    groups: list[tuple[int, int]] = []
    ids: list[bytes] = []
    endings: list[bytes] = []
    slots: dict[str, list[bytes]] = {}
    keys: list[msgspec.Raw] = []
    for bucket in buckets:
        longest = RETENTION_SECONDS
        for task_id, settlement in bucket:
            ttl = settlement.lease.task.result_ttl
            longest = max(ttl, longest)
            result = settlement.transition.result if ttl > 0 else None
            ids.append(task_id)
            endings.append(encode((1, (), result, settlement.execution, ttl)))
            task = settlement.lease.task
            if task.terms is not None:
                _give_back(task_id, task.name, task.terms, slots, keys)
        full, rest = divmod(len(bucket), _AT_A_TIME)
        sizes = [_AT_A_TIME] * full + ([rest] if rest else [])
        groups += [(size, ms(longest)) for size in sizes]
    lengths = encode(list(map(len, endings)))
    settled = (groups, others, _gated(slots, keys)) if slots or keys else (groups, others)
    return encode(settled), b"".join(ids), b"".join(endings), lengths


def _give_back(
    task_id: bytes,
    name: str,
    terms: Terms,
    slots: dict[str, list[bytes]],
    keys: list[msgspec.Raw],
) -> None:
    """Note what a task gives back at its end: its slots, and its key."""
    for gate in terms.gates:
        if gate.rate <= 0:
            gate_id = gate.id
            if gate_id in slots:
                slots[gate_id].append(task_id)
            else:
                slots[gate_id] = [task_id]
    unique = terms.unique
    if unique is not None and unique.until != "period":
        keys += (raw(task_id), raw(key_field(name, unique.key)))


def _gated(slots: dict[str, list[bytes]], keys: list[msgspec.Raw]) -> tuple[Any, ...]:
    """Pack what there is to free, gate by gate."""
    gates: list[str] = []
    numbers: list[int] = []
    ids: list[bytes] = []
    for gate, mine in slots.items():
        for start in range(0, len(mine), _AT_A_TIME):
            gates.append(gate)
            numbers.append(len(mine[start : start + _AT_A_TIME]))
        ids += mine
    return gates, numbers, raw(b"".join(ids)), keys


def _other(task_id: bytes, settlement: Settlement) -> tuple[Any, ...]:
    lease, transition, execution = settlement.lease, settlement.transition, settlement.execution
    task = lease.task
    touched = (transition.counters, transition.error, transition.reason)
    result = transition.result if task.result_ttl > 0 else None
    ending = (lease.execution, touched, result, execution, task.result_ttl)
    terms = asking(task)
    return (
        raw(task_id),
        lease.execution,
        "p" if transition.parked else LETTER_OF[transition.to],
        task.priority,
        ms(max(0.0, transition.delay)),
        raw(encode(ending)),
        raw(b"" if execution is None else encode(execution)),
        raw(encode(touched)),
        raw(b"" if task.key is None else key_field(task.name, task.key)),
        ms(max(RETENTION_SECONDS, task.result_ttl)),
        task.name,
        *(() if terms is None else (terms,)),
    )
