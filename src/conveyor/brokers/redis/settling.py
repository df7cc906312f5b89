"""Settlements on their way to lua/_settle.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.brokers.base import RETENTION_SECONDS, Settlement
from conveyor.brokers.redis.records import LETTER_OF, encode, key_field, ms, pack_ids
from conveyor.core.task import UNTOUCHED, State

_AT_A_TIME = 1_000
_SUCCEEDED = State.SUCCEEDED


def pack_settlements(settlements: Sequence[Settlement]) -> dict[str, bytes]:
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


def _pack(settlements: Sequence[Settlement]) -> bytes:
    ids = pack_ids([settlement.lease.task.id for settlement in settlements])
    if len(set(ids)) < len(ids):
        # Several ends of one execution: the first one counts, so the order has to be kept.
        return encode(((), [_other(*entry) for entry in zip(ids, settlements, strict=True)]))
    buckets: dict[bytes, tuple[list[bytes], list[Settlement]]] = {}
    others = []
    for task_id, settlement in zip(ids, settlements, strict=True):
        transition, lease = settlement.transition, settlement.lease
        if (
            transition.to is _SUCCEEDED
            and lease.execution == 1
            and transition.counters is UNTOUCHED
            and lease.task.key is None
        ):
            prefix = task_id[:4]
            mine = buckets.get(prefix)
            if mine is None:
                mine = buckets[prefix] = [], []
            mine[0].append(task_id)
            mine[1].append(settlement)
        else:
            others.append(_other(task_id, settlement))
    firsts = [
        _first(prefix, ids[start : start + _AT_A_TIME], mine[start : start + _AT_A_TIME])
        for prefix, (ids, mine) in buckets.items()
        for start in range(0, len(ids), _AT_A_TIME)
    ]
    return encode((firsts, others))


def _first(prefix: bytes, ids: list[bytes], settlements: list[Settlement]) -> tuple[Any, ...]:
    endings = []
    longest = RETENTION_SECONDS
    for settlement in settlements:
        ttl = settlement.lease.task.result_ttl
        if ttl > longest:
            longest = ttl
        result = settlement.transition.result if ttl > 0 else None
        endings.append(encode((1, (), result, settlement.execution, ttl)))
    return prefix, ms(longest), ids, b"".join(ids), endings


def _other(task_id: bytes, settlement: Settlement) -> tuple[Any, ...]:
    lease, transition, execution = settlement.lease, settlement.transition, settlement.execution
    task = lease.task
    touched = (transition.counters, transition.error, transition.reason)
    result = transition.result if task.result_ttl > 0 else None
    return (
        task_id,
        lease.execution,
        "p" if transition.parked else LETTER_OF[transition.to],
        task.priority,
        ms(max(0.0, transition.delay)),
        encode((lease.execution, touched, result, execution, task.result_ttl)),
        b"" if execution is None else encode(execution),
        encode(touched),
        b"" if task.key is None else key_field(task.name, task.key),
        ms(max(RETENTION_SECONDS, task.result_ttl)),
        task.name,
    )
