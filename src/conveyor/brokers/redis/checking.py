"""The invariants, checked from the keys (`conveyor doctor`).

A look takes a while and the queue goes on meanwhile: a task that moves may be seen twice or not at
all. So what looks wrong is looked at again, and only what is wrong every time is reported.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from conveyor.brokers.base import Violation
from conveyor.brokers.redis.checking_lanes import check_lanes
from conveyor.brokers.redis.listing import (
    CANCELLED,
    DUE,
    FAILED,
    RUNNING,
    SKIPPED,
    WAITING,
    all_ids,
    buckets,
    look_at,
    parked_sources,
    scan,
)
from conveyor.brokers.redis.records import read_ending, read_hold, unpack_id
from conveyor.brokers.redis.store import Store, pairs

_LOOKS = 3
_SHOWN = 100
_RESCUE_MS = 300_000
Wrong = dict[tuple[str, str], set[bytes]]
"""(invariant, message) -> ids."""


async def check(store: Store) -> list[Violation]:
    """Return the invariants that are broken."""
    violations: list[Violation] = []
    for queue in await store.queue_names():
        wrong = await _check_queue(store, queue)
        for _ in range(_LOOKS - 1):
            if not wrong:
                break
            again = await _check_queue(store, queue)
            wrong = {what: ids & again[what] for what, ids in wrong.items() if what in again}
            wrong = {what: ids for what, ids in wrong.items() if ids}
        violations += [
            Violation(
                invariant,
                f"queue {queue!r}: {len(ids)} task(s) {message}",
                tuple(map(unpack_id, sorted(ids)[:_SHOWN])),
            )
            for (invariant, message), ids in wrong.items()
        ]
    return violations


async def _check_queue(store: Store, queue: str) -> Wrong:
    wrong: Wrong = {}
    known = await all_ids(store, queue, [s for _, s in await buckets(store, queue, "j")])
    waiting = await _waiting(store, queue)
    places = Counter(waiting.keys())
    places.update(await all_ids(store, queue, [DUE]))
    places.update(await all_ids(store, queue, await parked_sources(store, queue)))
    running = await all_ids(store, queue, [RUNNING])
    places.update(running)
    successes = await all_ids(store, queue, [s for _, s in await buckets(store, queue, "f")])
    places.update(successes)
    dead = await all_ids(store, queue, [FAILED, CANCELLED, SKIPPED])
    places.update(dead)
    _note(wrong, "I1", "are in no state", known - places.keys())
    _note(wrong, "I1", "are in several states", {key for key, n in places.items() if n > 1})
    _note(wrong, "I1", "have a state but no record", places.keys() - known)
    _note(wrong, "I6", "wait more than once", {key for key, n in waiting.items() if n > 1})
    await _check_leases(store, queue, wrong)
    await _check_ends(store, queue, successes | dead, wrong)
    await _check_keys(store, queue, known, wrong)
    return wrong | await check_lanes(store, queue)


def _note(wrong: Wrong, invariant: str, message: str, ids: set[bytes]) -> None:
    if ids:
        wrong[invariant, message] = ids


async def _waiting(store: Store, queue: str) -> Counter[bytes]:
    """Count how often each id waits, those items left out that count no more."""
    counted: Counter[bytes] = Counter()
    for source in WAITING:
        async for ids in scan(store, queue, source):
            counted.update(ids)
    tombs = await store.ask_one(store.plain("HGETALL", store.root(queue), ":tomb"))
    counted.subtract({key: int(number) for key, number in pairs(tombs).items() if key})
    return +counted


async def _check_leases(store: Store, queue: str, wrong: Wrong) -> None:
    """I9: every running task has a worker whose lease is live, or is soon to be rescued."""
    holds = pairs(await store.ask_one(store.plain("HGETALL", store.root(queue), ":i")))
    workers: dict[str, set[bytes]] = {}
    for key, hold in holds.items():
        workers.setdefault(read_hold(hold)[2], set()).add(key)
    leases = await store.ask(
        *(store.plain("ZSCORE", store.top, ":w", worker) for worker in workers)
    )
    over_since = await store.time_ms() - _RESCUE_MS
    unknown: set[bytes] = set()
    late: set[bytes] = set()
    for ids, till in zip(workers.values(), leases, strict=True):
        if till is None:
            unknown |= ids
        elif abs(float(till)) < over_since:
            late |= ids
    _note(wrong, "I9", "run under a lease of which nothing is known", unknown)
    _note(wrong, "I9", "run under a lease that ended 5 minutes ago: no keeper runs", late)


async def _check_ends(store: Store, queue: str, ids: set[bytes], wrong: Wrong) -> None:
    """I3 and I5: execution numbers grow, and a result is there if and only if it succeeded."""
    listed = sorted(ids)
    unordered: set[bytes] = set()
    results: set[bytes] = set()
    for start in range(0, len(listed), 500):
        page = dict.fromkeys(listed[start : start + 500], queue)
        for key, look in (await look_at(store, page)).items():
            if look[0] not in {b"s", b"f", b"c", b"k"}:
                continue
            _, ending = read_ending(look[2])
            numbers = [execution.number for execution in ending.executions]
            if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > ending.number):
                unordered.add(key)
            expected = look[0] == b"s" and ending.result_ttl > 0
            if (ending.result is not None) != expected:
                results.add(key)
    _note(wrong, "I3", "have executions out of order", unordered)
    _note(wrong, "I5", "have a result without success, or none with it", results)


async def _check_keys(store: Store, queue: str, known: set[bytes], wrong: Wrong) -> None:
    """I7: a key, idempotent or unique, names a task that exists."""
    root = store.root(queue)
    for keys, ends in ((":keys", ":kx"), (":uniq", ":ux")):
        owners: dict[bytes, Any]
        owners, ending = map(
            pairs,
            await store.ask(
                store.plain("HGETALL", root, keys),
                store.plain("ZRANGE", root, ends, 0, -1, "WITHSCORES"),
            ),
        )
        lost = {
            o[:16] for field, o in owners.items() if o[:16] not in known and field not in ending
        }
        _note(wrong, "I7", "own a key but do not exist", lost)
