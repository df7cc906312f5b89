"""Who did what, and whether the log is as it was written."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from conveyor_console.audit import seal
from conveyor_console.audit.models import Outcome
from conveyor_console.audit_log import queries
from conveyor_console.audit_log.schemas import AuditOut, Verified
from conveyor_console.auth.access import needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.deps import Reading
from conveyor_console.kit.pages import Cursor, Limit, Page
from conveyor_console.kit.problems import problems
from conveyor_console.kit.sorting import cut, order_of, place_in
from conveyor_console.kit.wire import Instant, Line

AT_ONCE = 100_000
router = APIRouter(
    prefix="/audit",
    tags=["audit"],
    responses=problems(401, 403, 422),
    dependencies=[needs(Permission.AUDIT_READ)],
)
Text = Annotated[Line | None, Query(max_length=300)]
Sort = Annotated[Literal["-at", "at"], Query(description="`-`: the newest first.")]


@router.get("")
async def list_entries(
    db: Reading,
    *,
    user_id: Text = None,
    action: Annotated[
        Line | None, Query(max_length=100, description="`users.change`, or `users.*`.")
    ] = None,
    target: Annotated[Line | None, Query(max_length=300, description="`user:<id>`.")] = None,
    outcome: Outcome | None = None,
    request_id: Text = None,
    since: Instant | None = None,
    until: Instant | None = None,
    sort: Sort = "-at",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AuditOut]:
    """The audit log, the newest first unless asked otherwise."""
    wanted = queries.Wanted(user_id, action, target, outcome, request_id, since, until)
    order = order_of(sort)
    found = await queries.entries(db, wanted, order, place_in(order, cursor), limit + 1)
    rows, more = cut(found, limit, order, lambda row: (row.id, row.id))
    return Page(items=[AuditOut.model_validate(row) for row in rows], next_cursor=more)


@router.get("/verify")
async def verify_chain(
    db: Reading,
    after: Annotated[int, Query(ge=0, le=2**62, description="Go on behind this place.")] = 0,
    limit: Annotated[int, Query(ge=1, le=AT_ONCE)] = AT_ONCE,
    anchor: Annotated[
        str | None,
        Query(
            pattern="^[0-9]{1,18}:[0-9a-f]{64}$",
            description="`last_seq:last_hash` of an earlier walk: must still be there.",
        ),
    ] = None,
) -> Verified:
    """Compute every hash of the chain anew."""
    unsealed = await queries.unsealed(db)
    if anchor is not None:
        place, _, mark = anchor.partition(":")
        seq = int(place)
        if seq and await queries.hash_at(db, seq) != mark:
            return _told(
                seal.Verdict(0, after, seal.GENESIS, seq, "the log was rewritten or cut off"),
                unsealed,
                limit,
            )
    return _told(await seal.verify(db, after, limit), unsealed, limit)


def _told(verdict: seal.Verdict, unsealed: int, limit: int) -> Verified:
    return Verified(
        intact=verdict.broken_at is None,
        checked=verdict.checked,
        next_after=verdict.last_seq if verdict.checked == limit else None,
        broken_at=verdict.broken_at,
        why=verdict.why,
        last_seq=verdict.last_seq,
        last_hash=verdict.last_hash,
        unsealed=unsealed,
    )
