"""Endpoints and deliveries over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.console import Console
from conveyor_console.creating import Creating
from conveyor_console.deps import Reading, Writing, console_of
from conveyor_console.kit.etags import TO_CHANGE, IfMatch, etag_of, must_match
from conveyor_console.kit.outgoing import Refused
from conveyor_console.kit.pages import Cursor, Limit, Page, Search, page_of, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.wire import PathId
from conveyor_console.webhooks.collecting import TOPICS, Collector
from conveyor_console.webhooks.delivering import Delivering
from conveyor_console.webhooks.models import Webhook, WebhookCursor, WebhookDelivery
from conveyor_console.webhooks.schemas import (
    Rotation,
    State,
    WebhookDeliveryOut,
    WebhookIn,
    WebhookMade,
    WebhookOut,
)
from conveyor_console.webhooks.searching import SEARCH
from conveyor_console.webhooks.signing import make_secret

MOST = 100
"""Endpoints there may be."""
router = APIRouter(
    prefix="/webhooks",
    tags=["webhooks"],
    responses=problems(401, 403, 422),
    route_class=Creating,
)
Managing = Annotated[Principal, Depends(Needs(Permission.WEBHOOKS_MANAGE))]
_MANAGES = [needs(Permission.WEBHOOKS_MANAGE)]
InState = Annotated[State | None, Query()]


@router.get("", dependencies=_MANAGES)
async def list_webhooks(
    request: Request, db: Reading, *, q: Search = "", cursor: Cursor = None, limit: Limit = 50
) -> Page[WebhookOut]:
    """All endpoints, the oldest first."""
    place = place_of(cursor)
    statement = select(Webhook).order_by(Webhook.id).limit(limit + 1)
    statement = SEARCH.narrow(db, statement, q, console_of(request).clock.now())
    if place is not None:
        statement = statement.where(Webhook.id > place[0])
    rows, more = page_of(list(await db.scalars(statement)), limit, lambda row: [row.id])
    return Page(items=[WebhookOut.model_validate(row) for row in rows], next_cursor=more)


@router.post("", status_code=201, responses=problems(409))
async def create_webhook(
    body: WebhookIn, who: Managing, db: Writing, request: Request, response: Response
) -> WebhookMade:
    """Make an endpoint. Its secret is shown only here."""
    console = console_of(request)
    _check(console, body)
    others = (await db.scalars(select(Webhook.id).limit(MOST))).all()
    if len(others) >= MOST:
        raise Problem(409, f"there are {MOST} endpoints already")
    if not others:
        # Without endpoints nobody reads on: what happened meanwhile is nobody's news.
        await db.execute(delete(WebhookCursor))
    now, webhook_id, secret = console.clock.now(), console.new_id(), make_secret()
    row = Webhook(
        id=webhook_id,
        secret_sealed=console.vault.seal(secret, f"webhook:{webhook_id}"),
        former_sealed=None,
        former_until=None,
        created_by=who.name[:300],
        created_at=now,
        updated_at=now,
        **body.model_dump(),
    )
    db.add(row)
    await db.flush()
    note(request, "webhooks.create", f"webhook:{webhook_id}", after=body.model_dump())
    response.headers["ETag"] = etag_of(row.version)
    return WebhookMade(webhook=WebhookOut.model_validate(row), secret=secret)


@router.get("/{webhook_id}", dependencies=_MANAGES, responses=problems(404))
async def get_webhook(webhook_id: PathId, db: Reading, response: Response) -> WebhookOut:
    """One endpoint."""
    row = await _webhook(db, webhook_id)
    response.headers["ETag"] = etag_of(row.version)
    return WebhookOut.model_validate(row)


@router.put("/{webhook_id}", dependencies=_MANAGES, responses=problems(404, 412, 428))
async def replace_webhook(
    webhook_id: PathId,
    body: WebhookIn,
    db: Writing,
    request: Request,
    response: Response,
    *,
    if_match: IfMatch = None,
) -> WebhookOut:
    """Change an endpoint; its secret stays."""
    console = console_of(request)
    row = await _webhook(db, webhook_id, to_change=True)
    _check(console, body)
    must_match(if_match, row.version)
    before = {name: getattr(row, name) for name in WebhookIn.model_fields}
    for name, value in body.model_dump().items():
        setattr(row, name, value)
    row.updated_at = console.clock.now()
    await db.flush()
    note(
        request,
        "webhooks.replace",
        f"webhook:{webhook_id}",
        before=before,
        after=body.model_dump(),
    )
    response.headers["ETag"] = etag_of(row.version)
    return WebhookOut.model_validate(row)


@router.delete("/{webhook_id}", status_code=204, dependencies=_MANAGES, responses=problems(404))
async def delete_webhook(webhook_id: PathId, db: Writing, request: Request) -> None:
    """Delete an endpoint with its deliveries."""
    row = await _webhook(db, webhook_id)
    note(request, "webhooks.delete", f"webhook:{webhook_id}", before={"url": row.url})
    await db.execute(delete(Webhook).where(Webhook.id == webhook_id))


@router.post("/{webhook_id}/rotate", dependencies=_MANAGES, responses=problems(404))
async def rotate_secret(
    webhook_id: PathId, body: Rotation, db: Writing, request: Request
) -> WebhookMade:
    """Make a new secret, shown only here. For a while both sign: a signature has a `v1` of each."""
    console = console_of(request)
    row = await _webhook(db, webhook_id, to_change=True)
    secret, now = make_secret(), console.clock.now()
    row.former_sealed = row.secret_sealed
    row.former_until = now + timedelta(seconds=body.overlap_seconds)
    row.secret_sealed = console.vault.seal(secret, f"webhook:{webhook_id}")
    row.updated_at = now
    await db.flush()
    note(request, "webhooks.rotate", f"webhook:{webhook_id}", after=body.model_dump())
    return WebhookMade(webhook=WebhookOut.model_validate(row), secret=secret)


@router.post(
    "/{webhook_id}/ping", status_code=201, dependencies=_MANAGES, responses=problems(404, 409)
)
async def ping(webhook_id: PathId, db: Writing, request: Request) -> WebhookDeliveryOut:
    """Send the endpoint a `ping`."""
    console = console_of(request)
    await _webhook(db, webhook_id)
    collector = Collector(db, console.new_id, console.clock.now())
    made = collector.add(webhook_id, "ping", {}, f"ping:{console.new_id()}")
    await db.flush()
    return WebhookDeliveryOut.model_validate(made)


@router.get("/{webhook_id}/deliveries", dependencies=_MANAGES, responses=problems(404))
async def list_deliveries(
    webhook_id: PathId,
    db: Reading,
    state: InState = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[WebhookDeliveryOut]:
    """What was sent to it, the newest first."""
    await _webhook(db, webhook_id)
    place = place_of(cursor)
    statement = (
        select(WebhookDelivery)
        .where(WebhookDelivery.webhook_id == webhook_id)
        .order_by(WebhookDelivery.id.desc())
        .limit(limit + 1)
    )
    if state is not None:
        statement = statement.where(WebhookDelivery.state == state)
    if place is not None:
        statement = statement.where(WebhookDelivery.id < place[0])
    rows, more = page_of(list(await db.scalars(statement)), limit, lambda row: [row.id])
    return Page(items=[WebhookDeliveryOut.model_validate(row) for row in rows], next_cursor=more)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=201,
    dependencies=_MANAGES,
    responses=problems(404, 409),
)
async def replay(
    webhook_id: PathId, delivery_id: PathId, db: Writing, request: Request
) -> WebhookDeliveryOut:
    """Send the same body once more, as a new delivery."""
    console = console_of(request)
    before = await db.get(WebhookDelivery, delivery_id)
    if before is None or before.webhook_id != webhook_id:
        raise Problem(404, "there is no such delivery")
    made = Collector(db, console.new_id, console.clock.now()).again(before)
    await db.flush()
    note(request, "webhooks.replay", f"delivery:{delivery_id}")
    console.part(Delivering).wake()
    return WebhookDeliveryOut.model_validate(made)


async def _webhook(db: AsyncSession, webhook_id: str, *, to_change: bool = False) -> Webhook:
    found = await db.get(Webhook, webhook_id, with_for_update=TO_CHANGE if to_change else None)
    if found is None:
        raise Problem(404, "there is no such webhook")
    return found


def _check(console: Console, body: WebhookIn) -> None:
    wrong: tuple[str, str] | None = None
    for index, topic in enumerate(body.topics):
        if topic not in TOPICS:
            wrong = f"/topics/{index}", f"unknown topic {topic!r}: there are {', '.join(TOPICS)}"
    try:
        console.outgoing.checked(body.url)
    except Refused as exc:
        wrong = "/url", str(exc)
    if wrong is not None:
        at: dict[str, Any] = {"in": "body", "pointer": wrong[0], "detail": wrong[1]}
        raise Problem(422, f"{wrong[0]}: {wrong[1]}", errors=[at])
