"""Settlements on their way to lua/_settle.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    gated: list[tuple[Any, ...]] = []
    for bucket in buckets:
        longest = RETENTION_SECONDS
        for task_id, settlement in bucket:
            ttl = settlement.lease.task.result_ttl
            longest = max(ttl, longest)
            result = settlement.transition.result if ttl > 0 else None
            ids.append(task_id)
            endings.append(encode((1, (), result, settlement.execution, ttl)))
            task = settlement.lease.task
            if task.terms is not None and _gives_back(task.terms):
                gated.append((raw(task_id), task.name, task.terms))
        full, rest = divmod(len(bucket), _AT_A_TIME)
        sizes = [_AT_A_TIME] * full + ([rest] if rest else [])
        groups += [(size, ms(longest)) for size in sizes]
    lengths = encode(list(map(len, endings)))
    settled = (groups, others, gated) if gated else (groups, others)
    return encode(settled), b"".join(ids), b"".join(endings), lengths


def _gives_back(terms: Terms) -> bool:
    """Whether a task has anything to give back at its end: a slot, or a key."""
    return any(gate.rate <= 0 for gate in terms.gates) or (
        terms.unique is not None and terms.unique.until != "period"
    )


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
