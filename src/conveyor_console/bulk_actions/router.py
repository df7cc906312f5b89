"""Plan an action on all tasks that fit a filter, look at it, run it, stop it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.bulk_actions.choosing import Preview, choice, just_above, preview
from conveyor_console.bulk_actions.models import BulkAction, State
from conveyor_console.bulk_actions.running import Running
from conveyor_console.bulk_actions.schemas import BulkActionOut, NewBulkAction, RunIn, sample_of
from conveyor_console.bulk_actions.searching import SEARCH
from conveyor_console.bulk_actions.telling import tell
from conveyor_console.creating import Creating
from conveyor_console.deps import Reading, Writing, changing, console_of
from conveyor_console.kit.grammar import BadQuery
from conveyor_console.kit.pages import Cursor, Limit, Page, Search, bad_query, page_of, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.wire import PathId

GOOD_FOR = timedelta(minutes=10)
"""How long a plan can be run: after that it is of another day."""
router = APIRouter(
    prefix="/bulk-actions",
    tags=["bulk-actions"],
    responses=problems(401, 403, 422),
    route_class=Creating,
)
Managing = Annotated[Principal, Depends(Needs(Permission.TASKS_MANAGE))]
_READS = [needs(Permission.TASKS_READ)]
_MANAGES = [needs(Permission.TASKS_MANAGE)]
Stands = Annotated[State | None, Query(description="Only those that stand so.")]


@router.get("", dependencies=_READS)
async def list_bulk_actions(
    request: Request,
    db: Reading,
    *,
    q: Search = "",
    state: Stands = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[BulkActionOut]:
    """Plans and runs, the newest first; those that are over are kept for 90 days."""
    place = place_of(cursor)
    wanted = select(BulkAction).order_by(BulkAction.id.desc()).limit(limit + 1)
    if state is not None:
        wanted = wanted.where(BulkAction.state == state)
    if place is not None:
        wanted = wanted.where(BulkAction.id < place[0])
    now = console_of(request).clock.now()
    wanted = SEARCH.narrow(db, wanted, q, now)
    rows, more = page_of((await db.scalars(wanted)).all(), limit, lambda row: [row.id])
    return Page(items=[BulkActionOut.showing(row, now) for row in rows], next_cursor=more)


@router.post("", status_code=201, responses=problems(503))
async def plan_bulk_action(body: NewBulkAction, who: Managing, request: Request) -> BulkActionOut:
    """Count the tasks that fit and show some of them. Nothing happens to them: `run` does it, to
    those that fit then and were there now."""
    console = console_of(request)
    now = console.clock.now()
    try:
        wanted = choice(body.action, body.of, body.q, now.timestamp())
    except BadQuery as exc:
        raise bad_query(exc) from None
    found = await preview(console, wanted)
    plan_id = console.new_id()
    row = BulkAction(
        id=plan_id,
        action=body.action,
        of=body.of,
        q=body.q.replace("\x00", "␀"),
        reason=body.reason,
        delay=body.delay,
        due_at=None if body.at is None else body.at.timestamp(),
        per_second=body.per_second,
        state=State.PLANNED,
        created_by=who.name[:300],
        created_at=now,
        expires_at=now + GOOD_FOR,
        count=found.number,
        is_exact=found.is_exact,
        sample=sample_of(found.tasks),
        before=_beginning(found, plan_id),
        lot=0,
        pending=[],
        done=0,
        failed=0,
        skipped={},
    )
    after = body.model_dump() | {"count": found.number, "is_exact": found.is_exact}
    note(request, "bulk-actions.plan", f"bulk-action:{row.id}", detail=body.reason, after=after)
    async with changing(request) as db:
        db.add(row)
        tell(db, console, row, "created", now)
        await db.flush()
    return BulkActionOut.showing(row, now)


@router.get("/{action_id}", dependencies=_READS, responses=problems(404))
async def get_bulk_action(action_id: PathId, request: Request, db: Reading) -> BulkActionOut:
    """A plan, or how far its run is."""
    return BulkActionOut.showing(await _get(db, action_id), console_of(request).clock.now())


@router.post("/{action_id}/run", status_code=202, responses=problems(404, 409))
async def run_bulk_action(
    action_id: PathId, who: Managing, db: Writing, request: Request, body: RunIn | None = None
) -> BulkActionOut:
    """Run a plan in the background. Before its grace is over no task is touched."""
    console = console_of(request)
    now = console.clock.now()
    row = await _get(db, action_id, to_change=True)
    if row.state != State.PLANNED:
        raise Problem(409, f"this plan was run already: it is {row.state}")
    if row.expires_at <= now:
        raise Problem(409, "this plan has expired: what fits may be others by now; plan it anew")
    if row.before is None:
        raise Problem(409, "no task fitted when this was planned; plan it anew")
    grace = (body or RunIn()).grace
    row.state, row.started_by, row.started_at = State.WAITING, who.name[:300], now
    row.begins_at = now + timedelta(seconds=grace)
    after = {"action": row.action, "of": row.of, "q": row.q, "count": row.count, "grace": grace}
    note(request, "bulk-actions.run", f"bulk-action:{row.id}", detail=row.reason, after=after)
    tell(db, console, row, "started", now)
    await db.flush()
    console.part(Running).wake()
    return BulkActionOut.showing(row, now)


@router.post("/{action_id}/undo", dependencies=_MANAGES, responses=problems(404, 409))
async def undo_bulk_action(action_id: PathId, db: Writing, request: Request) -> BulkActionOut:
    """Take a run back within its grace: no task was touched, and none will be."""
    row = await _get(db, action_id, to_change=True)
    if row.state != State.WAITING:
        raise Problem(
            409,
            f"only a run that has not begun can be undone, and this is {row.state}: abort stops "
            "one, and `inverse` says what takes back what it did",
        )
    return await _stop(request, db, row, State.UNDONE)


@router.post("/{action_id}/abort", dependencies=_MANAGES, responses=problems(404, 409))
async def abort_bulk_action(action_id: PathId, db: Writing, request: Request) -> BulkActionOut:
    """Stop a run. What it did stays done; the lot under way may still end."""
    row = await _get(db, action_id, to_change=True)
    if row.state not in {State.WAITING, State.RUNNING}:
        raise Problem(409, f"only a run can be aborted, and this is {row.state}")
    return await _stop(request, db, row, State.ABORTED)


def _beginning(found: Preview, plan_id: str) -> str | None:
    """Return the id below which a run begins; None when nothing fits."""
    if found.tasks:
        return just_above(found.tasks[0].id)
    # None among the newest, and more than these were not looked at. Ids are of one order.
    return None if found.is_exact else plan_id


async def _stop(request: Request, db: AsyncSession, row: BulkAction, state: State) -> BulkActionOut:
    console = console_of(request)
    now = console.clock.now()
    row.state, row.ended_at = state, now
    tell(db, console, row, state.value, now)
    verb = "undo" if state is State.UNDONE else "abort"
    note(request, f"bulk-actions.{verb}", f"bulk-action:{row.id}", after={"done": row.done})
    await db.flush()
    return BulkActionOut.showing(row, now)


async def _get(db: AsyncSession, action_id: str, *, to_change: bool = False) -> BulkAction:
    row = await db.get(BulkAction, action_id, with_for_update=to_change or None)
    if row is None:
        raise Problem(404, f"there is no bulk action {action_id}")
    return row
