"""Dead letters: one by one, by what killed them, by filter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request

from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.console import Console
from conveyor_console.dead_letters import queries, service
from conveyor_console.dead_letters.schemas import (
    Changed,
    Chosen,
    GroupOut,
    GroupPage,
    LetterOut,
    LetterPage,
)
from conveyor_console.deps import Reading, console_of
from conveyor_console.history.letters import FIELDS, LETTERS, letters
from conveyor_console.history.models import DeadLetter
from conveyor_console.history.ordering import in_order
from conveyor_console.kit.filters import Condition, conditions
from conveyor_console.kit.grammar import BadQuery
from conveyor_console.kit.pages import IdCursor, Limit, Search, TaskId, bad_query, id_cursor
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.sorting import order_of

router = APIRouter(prefix="/dead-letters", tags=["dead-letters"], responses=problems(401, 403, 422))
Managing = Annotated[Principal, Depends(Needs(Permission.TASKS_MANAGE))]
_READ = [needs(Permission.TASKS_READ)]
Sort = Annotated[
    Literal["-id", "id", "-died", "died"],
    Query(description="By id, which is when they were enqueued, or by death; `-`: descending."),
]


@router.get("", dependencies=_READ)
async def list_letters(
    request: Request,
    db: Reading,
    *,
    q: Search = "",
    sort: Sort = "-id",
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> LetterPage:
    """List dead letters, those with the newest ids first unless asked otherwise."""
    wanted = _conditions(console_of(request), q)
    if sort == "-id":
        part = await letters(db, wanted, id_cursor(cursor), limit)
    else:
        part = await in_order(db, LETTERS, wanted, order_of(sort), cursor=cursor, limit=limit)
    return LetterPage(
        items=[_shown(one) for one in part.rows], next_cursor=part.floor, truncated=part.cut
    )


@router.get("/groups", dependencies=_READ)
async def list_groups(
    request: Request, db: Reading, q: Search = "", cursor: IdCursor = None, limit: Limit = 50
) -> GroupPage:
    """Group dead letters by the fingerprint of their error, the latest first."""
    wanted = _conditions(console_of(request), q)
    rows = await queries.groups(db, wanted, id_cursor(cursor), limit)
    items = [
        GroupOut(
            fingerprint=fingerprint,
            number=number,
            error_type=letter.error_type,
            error=letter.error,
            name=letter.name,
            first_at=datetime.fromtimestamp(first, UTC),
            last_at=datetime.fromtimestamp(last, UTC),
            task_id=newest,
        )
        for fingerprint, number, first, last, newest, letter in rows
    ]
    return GroupPage(items=items, next_cursor=items[-1].task_id if len(items) == limit else None)


@router.post("/requeue", responses=problems(503))
async def requeue_many(body: Chosen, who: Managing, request: Request) -> Changed:
    """Give dead letters another life: those named, or those that fit a filter."""
    console = console_of(request)
    chosen, asked, more = await _chosen(console, body)
    return await service.requeue(console, chosen, asked, more=more)


@router.post("/discard", responses=problems(503))
async def discard_many(body: Chosen, who: Managing, request: Request) -> Changed:
    """Delete dead letters in the queue: those named, or those that fit a filter."""
    console = console_of(request)
    chosen, asked, more = await _chosen(console, body)
    return await service.discard(console, chosen, asked, more=more)


@router.post("/{task_id}/requeue", status_code=204, responses=problems(404, 503))
async def requeue_one(task_id: TaskId, who: Managing, request: Request) -> None:
    """Give a dead letter another life."""
    console = console_of(request)
    chosen = await service.named(console, [task_id])
    if not (await service.requeue(console, chosen, 1, more=False)).changed:
        raise Problem(404, f"there is no dead letter {task_id}")


@router.delete("/{task_id}", status_code=204, responses=problems(404, 503))
async def discard_one(task_id: TaskId, who: Managing, request: Request) -> None:
    """Delete a dead letter in the queue; the history keeps what happened."""
    console = console_of(request)
    chosen = await service.named(console, [task_id])
    if not (await service.discard(console, chosen, 1, more=False)).changed:
        raise Problem(404, f"there is no dead letter {task_id}")


def _conditions(console: Console, q: str) -> tuple[Condition, ...]:
    try:
        return conditions(q, FIELDS, console.clock.now().timestamp())
    except BadQuery as exc:
        raise bad_query(exc) from None


async def _chosen(console: Console, body: Chosen) -> tuple[Sequence[service.Letter], int, bool]:
    if body.ids is not None:
        ids = list(dict.fromkeys(body.ids))
        return await service.named(console, ids), len(ids), False
    chosen, more = await service.fitting(console, _conditions(console, body.q or ""))
    return chosen, len(chosen), more


def _shown(one: DeadLetter) -> LetterOut:
    return LetterOut(
        task_id=one.task_id,
        name=one.name,
        queue=one.queue,
        state=one.state,
        died_at=datetime.fromtimestamp(one.died_at, UTC),
        attempts=one.attempts,
        error_type=one.error_type,
        error=one.error,
        reason=one.reason,
        fingerprint=one.fingerprint,
    )
