"""Rules over HTTP: made, changed, silenced."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.alerts import ending, queries, reporting
from conveyor_console.alerts.alerting import Alerting
from conveyor_console.alerts.measures import MEASURES
from conveyor_console.alerts.models import AlertRule
from conveyor_console.alerts.schemas import RuleIn, RuleOut, Silence
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.creating import Creating
from conveyor_console.deps import Reading, Writing, console_of
from conveyor_console.kit.etags import IfMatch, etag_of, must_match
from conveyor_console.kit.pages import Cursor, Limit, Page, Search, page_of, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.wire import PathId

_P = Permission
router = APIRouter(responses=problems(401, 403, 422), route_class=Creating)
Managing = Annotated[Principal, Depends(Needs(_P.ALERTS_MANAGE))]
_READS = [needs(_P.ALERTS_READ)]
_MANAGES = [needs(_P.ALERTS_MANAGE)]


@router.get("/rules", dependencies=_READS)
async def list_rules(
    request: Request, db: Reading, *, q: Search = "", cursor: Cursor = None, limit: Limit = 50
) -> Page[RuleOut]:
    """All rules and where they stand, the oldest first."""
    place = place_of(cursor)
    now = console_of(request).clock.now()
    found = await queries.rules(db, q, now, place[0] if place else None, limit + 1)
    rows, more = page_of(found, limit, lambda rule: [rule.id])
    return Page(items=await queries.rules_out(db, rows), next_cursor=more)


@router.post("/rules", status_code=201, dependencies=_MANAGES, responses=problems(409))
async def create_rule(body: RuleIn, db: Writing, request: Request, response: Response) -> RuleOut:
    """Make a rule. It is evaluated within seconds."""
    console = console_of(request)
    await _must_be_metric(db, body.metric)
    await queries.must_be_free(db, AlertRule, body.name)
    await queries.must_be_channels(db, body.channels)
    now = console.clock.now()
    rule = AlertRule(id=console.new_id(), created_at=now, updated_at=now, **body.model_dump())
    db.add(rule)
    await db.flush()
    note(request, "alerts.create_rule", f"rule:{rule.id}", after=body.model_dump())
    response.headers["ETag"] = etag_of(rule.version)
    return RuleOut.model_validate(_plain(rule))


@router.get("/rules/{rule_id}", dependencies=_READS, responses=problems(404))
async def get_rule(rule_id: PathId, db: Reading, response: Response) -> RuleOut:
    """One rule and where it stands."""
    rule = await queries.rule_of(db, rule_id)
    response.headers["ETag"] = etag_of(rule.version)
    return (await queries.rules_out(db, [rule]))[0]


@router.put("/rules/{rule_id}", responses=problems(404, 409, 412, 428))
async def replace_rule(
    rule_id: PathId,
    body: RuleIn,
    who: Managing,
    db: Writing,
    *,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> RuleOut:
    """Replace a rule. Where it stands is kept, unless it is disabled or now measures something
    else: then an open alert of it is over, and those who were told that it fires are told why."""
    rule = await queries.rule_of(db, rule_id, to_change=True)
    must_match(if_match, rule.version)
    await _must_be_metric(db, body.metric)
    await queries.must_be_free(db, AlertRule, body.name, rule.id)
    await queries.must_be_channels(db, body.channels)
    before = _body_of(rule)
    if not body.enabled:
        await _close(db, request, rule, f"the rule was disabled by {who.name}")
    elif (rule.metric, rule.target) != (body.metric, body.target):
        await _close(db, request, rule, f"the rule was changed by {who.name}")
    for name, value in body.model_dump().items():
        setattr(rule, name, value)
    rule.updated_at = console_of(request).clock.now()
    await db.flush()
    note(
        request,
        "alerts.replace_rule",
        f"rule:{rule.id}",
        before=before,
        after=body.model_dump(),
    )
    response.headers["ETag"] = etag_of(rule.version)
    return (await queries.rules_out(db, [rule]))[0]


@router.delete("/rules/{rule_id}", status_code=204, responses=problems(404))
async def delete_rule(rule_id: PathId, who: Managing, db: Writing, request: Request) -> None:
    """Delete a rule with its alerts. Those who were told that it fires are told why it is over."""
    rule = await queries.rule_of(db, rule_id, to_change=True)
    note(request, "alerts.delete_rule", f"rule:{rule.id}", before=_body_of(rule))
    await _close(db, request, rule, f"the rule was deleted by {who.name}")
    await ending.bury(db, rule, console_of(request).clock.now())


@router.post("/rules/{rule_id}/silence", responses=problems(404))
async def silence_rule(
    rule_id: PathId, body: Silence, who: Managing, db: Writing, request: Request
) -> RuleOut:
    """Tell nobody of this rule's alerts for a while; they are still raised and kept. What still
    fires when the silence ends is told then."""
    console = console_of(request)
    rule = await queries.rule_of(db, rule_id, to_change=True)
    rule.silenced_until = console.clock.now() + timedelta(seconds=body.seconds)
    rule.silenced_by = who.name[:300]
    await db.flush()
    note(request, "alerts.silence_rule", f"rule:{rule.id}", after={"until": rule.silenced_until})
    return (await queries.rules_out(db, [rule]))[0]


@router.delete("/rules/{rule_id}/silence", dependencies=_MANAGES, responses=problems(404))
async def end_silence(rule_id: PathId, db: Writing, request: Request) -> RuleOut:
    """Tell of this rule's alerts again."""
    rule = await queries.rule_of(db, rule_id, to_change=True)
    rule.silenced_until = rule.silenced_by = None
    await db.flush()
    note(request, "alerts.end_silence", f"rule:{rule.id}")
    console_of(request).part(Alerting).wake()
    return (await queries.rules_out(db, [rule]))[0]


async def _close(db: AsyncSession, request: Request, rule: AlertRule, why: str) -> None:
    console = console_of(request)
    if await ending.close(db, console.new_id, console.clock.now(), rule, why):
        console.part(Alerting).wake()


async def _must_be_metric(db: Writing, metric: str) -> None:
    if metric not in MEASURES and metric not in await reporting.names(db):
        known = ", ".join(sorted(MEASURES))
        detail = f"there is no metric {metric!r}: {known}, and those that were reported"
        raise Problem(422, detail, errors=[{"in": "body", "pointer": "/metric", "detail": detail}])


def _body_of(rule: AlertRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in RuleIn.model_fields}


def _plain(rule: AlertRule) -> dict[str, Any]:
    """A rule that was just made; it stands nowhere yet."""
    return {name: getattr(rule, name, None) for name in RuleOut.model_fields}
