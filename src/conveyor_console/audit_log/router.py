"""Who did what, and whether the log is as it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from conveyor_console.audit import seal
from conveyor_console.audit.models import Outcome
from conveyor_console.audit_log import queries
from conveyor_console.audit_log.schemas import AuditOut, AuditPage, Verified
from conveyor_console.audit_log.searching import SEARCH
from conveyor_console.auth.access import needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.deps import Reading, console_of
from conveyor_console.kit.filters import Condition
from conveyor_console.kit.pages import Cursor, Limit, Search
from conveyor_console.kit.problems import problems
from conveyor_console.kit.sorting import Place, cursor_in, order_of, place_in
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
    request: Request,
    db: Reading,
    *,
    q: Search = "",
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
) -> AuditPage:
    """The audit log, the newest first unless asked otherwise."""
    order = order_of(sort)
    given = {"user_id": user_id, "action": action, "target": target}
    given |= {"outcome": outcome, "request_id": request_id}
    wanted = [*SEARCH.read(q, console_of(request).clock.now()), *_of_parameters(given)]
    wanted += [Condition("at", op, (at,)) for op, at in ((">=", since), ("<", until)) if at]
    found = await queries.entries(db, wanted, order, place_in(order, cursor), limit)
    floor = found.floor
    return AuditPage(
        items=[AuditOut.model_validate(row) for row in found.rows],
        next_cursor=None if floor is None else cursor_in(order, Place(floor, floor)),
        truncated=found.cut,
    )


def _of_parameters(given: Mapping[str, str | None]) -> Iterator[Condition]:
    for attribute, value in given.items():
        if value is None:
            continue
        # `users.*`: everything of a noun.
        if attribute == "action" and value.endswith("*"):
            yield Condition(attribute, "is", (), patterns=(value,))
        else:
            yield Condition(attribute, "is", (value,))


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
