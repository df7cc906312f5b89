"""Giving tasks out: promotion of what is due, the claim, adoption of parked tasks."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from conveyor.brokers.base import Step, StepReply
from conveyor.brokers.sqlite import lanes
from conveyor.brokers.sqlite.admission import Admission, has_lanes
from conveyor.brokers.sqlite.rows import (
    LEVEL,
    MICROS,
    QUEUED,
    RUNNING,
    decode_story,
    decode_task,
    unpack_id,
)
from conveyor.brokers.sqlite.settle import settle
from conveyor.brokers.sqlite.statements import SQL
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.task import UNTOUCHED, Lease, Task

PROMOTED_PER_QUEUE = 1_000
GATED_AT_A_TIME = 1_000
"""Parked gated tasks that one call takes back to their lanes, however few its worker wants."""


class Holder(NamedTuple):
    """A worker whose lease is live."""

    number: int
    token: str


def step(tx: Transaction, beat: Step) -> StepReply:
    """Settle, promote, lease."""
    refused = settle(tx, beat.settlements)
    worker = tx.one("find_worker", (beat.worker,))
    if worker is None:
        return StepReply(refused=refused)
    number, until, swept = worker
    holder = Holder(number, beat.worker)
    cancels = _untold_cancels(tx, number)
    if beat.want <= 0 or swept or until <= tx.now:
        return StepReply(refused=refused, cancels=cancels)
    queues = open_queues(tx, beat.queues)
    for queue, name in queues:
        promote(tx, queue, name)
    gated = None
    if has_lanes(tx):
        gated = Admission(tx, beat.want if beat.slots is None else min(beat.want, beat.slots))
    leases: list[Lease] = []
    for queue, name in queues:
        wanted = beat.want - len(leases)
        if wanted <= 0:
            break
        if gated is None or not gated.concerns(queue):
            leases += _claim(tx, queue, name, wanted, holder)
        else:
            leases += _claim_mixed(tx, gated, (queue, name), wanted, holder)
    if gated is not None:
        gated.write()
    if len(leases) >= beat.want:
        tx.sated.add(beat.worker)
        return StepReply(leases, refused, cancels)
    return StepReply(leases, refused, cancels, _next_due(tx, queues, gated))


def open_queues(tx: Transaction, names: Sequence[str]) -> list[tuple[int, str]]:
    """Return number and name of those queues that exist and are not paused, in order."""
    paused = {row[0] for row in tx.all("paused")}
    known = tx.known.known_queues(names)
    return [(number, name) for number, name in known if number not in paused]


def promote(tx: Transaction, queue: int, name: str, limit: int = PROMOTED_PER_QUEUE) -> int:
    """Move what is due from scheduled to queued, the earliest first; return how many."""
    first = tx.one("first_due", (queue,))
    if first is None or first[0] > tx.now:
        return 0
    rows = tx.all("take_due", (queue, tx.now, limit))
    order = tx.numbers(len(rows))
    ready, places = [], []
    for number, (at, _, seq, priority, task_id, execution, lane) in enumerate(rows, order):
        # It has been available since it was due, however late somebody looked.
        rank = at - priority * LEVEL
        if lane:
            lanes.rejoin(tx, lanes.Place(queue, lane, rank, number), seq, priority)
        else:
            ready.append((queue, rank, number, seq, priority))
        places.append((rank, number, seq))
        tx.changed(QUEUED, execution, queue, task_id)
    tx.executemany(SQL["insert_ready"], ready)
    tx.executemany(SQL["place_task"], places)
    tx.run("delete_due_through", (queue, rows[-1][0], rows[-1][1]))
    tx.wake.add(name)
    return len(rows)


def _untold_cancels(tx: Transaction, worker: int) -> list[str]:
    rows = tx.all("untold_cancels", (worker,))
    if rows:
        tx.run("told_cancels", (worker,))
    return [unpack_id(row[0]) for row in rows]


def _next_due(
    tx: Transaction, queues: Sequence[tuple[int, str]], gated: Admission | None
) -> float | None:
    firsts = [tx.one("first_due", (queue,)) for queue, _ in queues]
    times = [first[0] for first in firsts if first is not None]
    if gated is not None and (opening := gated.next_due()) is not None:
        times.append(opening)
    return max(0, min(times) - tx.now) / MICROS if times else None


def _claim(tx: Transaction, queue: int, name: str, want: int, holder: Holder) -> list[Lease]:
    rows = tx.all("claim", (queue, want))
    if not rows:
        return []
    tx.run("delete_ready_through", (queue, rows[-1][0], rows[-1][1]))
    if len(rows) == want and tx.one("any_ready", (queue,)) is not None:
        # There is more than this worker takes: whoever else is idle should come too.
        tx.wake.add(name)
    else:
        tx.wake.discard(name)
    return lease_rows(tx, [row[2:] for row in rows], [queue] * len(rows), holder)


def _claim_mixed(
    tx: Transaction, gated: Admission, queue: tuple[int, str], want: int, holder: Holder
) -> list[Lease]:
    """Claim from the plain line and the lanes of a queue, in one order."""
    number, name = queue
    plain = tx.all("claim", (number, want))
    rows, taken = gated.claim(number, plain, want)
    if taken:
        tx.run("delete_ready_through", (number, *plain[taken - 1][:2]))
    gated.ring(number, name, sated=len(rows) >= want)
    return lease_rows(tx, rows, [number] * len(rows), holder)


def lease_rows(
    tx: Transaction, rows: Sequence[tuple[Any, ...]], queues: Sequence[int], holder: Holder
) -> list[Lease]:
    """Make leases of rows of (seq, id, execution, story, body or task)."""
    now, token = tx.now, holder.token
    at = now / MICROS
    tx.executemany(
        SQL["insert_lease"],
        [(seq, execution, holder.number, now) for seq, _, execution, _, _ in rows],
    )
    leases = []
    leased = tx.known.leased
    changes: dict[tuple[int, int], list[bytes]] = {}
    for (seq, task_id, execution, story, body), queue in zip(rows, queues, strict=True):
        change = (execution, queue)
        if change in changes:
            changes[change].append(task_id)
        else:
            changes[change] = [task_id]
        counters = UNTOUCHED if story is None else decode_story(story).counters
        task = body if type(body) is Task else decode_task(body)
        leased(task.id, seq, task_id)
        leases.append(Lease(task, execution, counters, False, token, at))
    for (execution, queue), ids in changes.items():
        tx.change_of(RUNNING, execution, queue).extend(ids)
    return leases


def any_parked(connection: sqlite3.Connection) -> bool:
    """Whether any task is parked."""
    return connection.execute(SQL["any_parked"]).fetchone() is not None


def adopt(
    tx: Transaction, worker: str, names: Sequence[str], queues: Sequence[str], want: int
) -> list[Lease]:
    """Lease parked tasks whose names the worker knows."""
    found = tx.one("find_worker", (worker,))
    if found is None or found[2] or found[1] <= tx.now:
        return []
    allowed = [queue for queue, _ in open_queues(tx, queues)]
    known = tx.known.known_names(names)
    statement = SQL["parked"].format(queues=_marks(allowed), names=_marks(known))
    gated = tx.execute(statement, (*allowed, *known, True, GATED_AT_A_TIME)).fetchall()
    rows = tx.execute(statement, (*allowed, *known, False, want)).fetchall()
    tx.run_many("delete_parked", [(row[0],) for row in (*gated, *rows)])
    _back_to_lanes(tx, gated)
    if not rows:
        return []
    holder = Holder(found[0], worker)
    return lease_rows(tx, [row[:5] for row in rows], [row[5] for row in rows], holder)


def _back_to_lanes(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> None:
    """Gated tasks are not leased past their gates: a step takes them from their lanes."""
    for seq, _, _, _, body, queue, lane in rows:
        task = decode_task(body)
        # Its own number: a fresh one belongs to an event, and this is no change of state.
        rank = tx.now - task.priority * LEVEL
        lanes.rejoin(tx, lanes.Place(queue, lane, rank, seq), seq, task.priority)
        tx.run("place_task", (rank, seq, seq))
        tx.wake.add(task.queue)


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
