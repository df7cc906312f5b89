"""Channels over HTTP: where alerts are told."""

from __future__ import annotations

from typing import Any

import httpx
from email_validator import EmailNotValidError, validate_email
from fastapi import APIRouter, Request, Response
from sqlalchemy import delete

from conveyor_console.alerts import queries
from conveyor_console.alerts.alerting import Alerting
from conveyor_console.alerts.models import AlertChannel
from conveyor_console.alerts.schemas import ChannelIn, ChannelOut, Tested
from conveyor_console.alerts.telling import Message
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.console import Console
from conveyor_console.creating import Creating
from conveyor_console.deps import Reading, Writing, console_of
from conveyor_console.kit.etags import IfMatch, etag_of, must_match
from conveyor_console.kit.outgoing import Refused
from conveyor_console.kit.pages import Cursor, Limit, Page, Search, page_of, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.sealing import CannotOpen
from conveyor_console.kit.wire import PathId

MOST_ADDRESSES = 20
router = APIRouter(prefix="/channels", responses=problems(401, 403, 422), route_class=Creating)
_READS = [needs(Permission.ALERTS_READ)]
_MANAGES = [needs(Permission.ALERTS_MANAGE)]


@router.get("", dependencies=_READS)
async def list_channels(
    db: Reading, request: Request, *, q: Search = "", cursor: Cursor = None, limit: Limit = 50
) -> Page[ChannelOut]:
    """All channels, the oldest first."""
    place, console = place_of(cursor), console_of(request)
    now, after = console.clock.now(), place[0] if place else None
    found = await queries.channels(db, q, now, after, limit + 1)
    rows, more = page_of(found, limit, lambda channel: [channel.id])
    return Page(items=[_shown(console, row) for row in rows], next_cursor=more)


@router.post("", status_code=201, dependencies=_MANAGES, responses=problems(409))
async def create_channel(
    body: ChannelIn, db: Writing, request: Request, response: Response
) -> ChannelOut:
    """Make a channel."""
    console = console_of(request)
    _check_target(console, body)
    await queries.must_be_free(db, AlertChannel, body.name)
    now, channel_id = console.clock.now(), console.new_id()
    channel = AlertChannel(
        id=channel_id,
        name=body.name,
        kind=body.kind,
        target_sealed=console.vault.seal(body.target, f"channel:{channel_id}"),
        enabled=body.enabled,
        created_at=now,
        updated_at=now,
    )
    db.add(channel)
    await db.flush()
    note(request, "alerts.create_channel", f"channel:{channel_id}", after=_told(body))
    response.headers["ETag"] = etag_of(channel.version)
    return _shown(console, channel)


@router.put("/{channel_id}", dependencies=_MANAGES, responses=problems(404, 409, 412, 428))
async def replace_channel(
    channel_id: PathId,
    body: ChannelIn,
    db: Writing,
    request: Request,
    response: Response,
    *,
    if_match: IfMatch = None,
) -> ChannelOut:
    """Replace a channel."""
    console = console_of(request)
    channel = await queries.channel_of(db, channel_id, to_change=True)
    must_match(if_match, channel.version)
    _check_target(console, body)
    await queries.must_be_free(db, AlertChannel, body.name, channel.id)
    channel.name, channel.kind, channel.enabled = body.name, body.kind, body.enabled
    channel.target_sealed = console.vault.seal(body.target, f"channel:{channel_id}")
    channel.updated_at = console.clock.now()
    await db.flush()
    note(request, "alerts.replace_channel", f"channel:{channel_id}", after=_told(body))
    response.headers["ETag"] = etag_of(channel.version)
    return _shown(console, channel)


@router.delete("/{channel_id}", status_code=204, dependencies=_MANAGES, responses=problems(404))
async def delete_channel(channel_id: PathId, db: Writing, request: Request) -> None:
    """Delete a channel; rules that name it tell one less."""
    channel = await queries.channel_of(db, channel_id)
    note(request, "alerts.delete_channel", f"channel:{channel_id}", before={"name": channel.name})
    await db.execute(delete(AlertChannel).where(AlertChannel.id == channel_id))


@router.post("/{channel_id}/test", dependencies=_MANAGES, responses=problems(404))
async def test_channel(channel_id: PathId, request: Request) -> Tested:
    """Tell the channel of an alert that is none, now."""
    console = console_of(request)
    # Not `Writing`: telling may take seconds, and on SQLite there is one writer at a time.
    async with console.database.reading() as db:
        channel = await queries.channel_of(db, channel_id)
    message = Message(
        "test", "a trial", "info", "This is only a trial.", None, "", console.clock.now(), None
    )
    error = await console.part(Alerting).tell(channel, message)
    return Tested(delivered=error is None, error=error)


def _check_target(console: Console, body: ChannelIn) -> None:
    try:
        if body.kind == "email":
            _check_addresses(body.target)
        else:
            console.outgoing.checked(body.target)
    except (Refused, EmailNotValidError) as exc:
        detail = str(exc)
        raise Problem(
            422, detail, errors=[{"in": "body", "pointer": "/target", "detail": detail}]
        ) from None


def _check_addresses(target: str) -> None:
    addresses = [part.strip() for part in target.split(",")]
    if len(addresses) > MOST_ADDRESSES:
        raise Refused(f"{MOST_ADDRESSES} addresses at most")
    for address in addresses:
        validate_email(address, check_deliverability=False)


def _shown(console: Console, channel: AlertChannel) -> ChannelOut:
    try:
        target = console.vault.open(channel.target_sealed, f"channel:{channel.id}")
    except CannotOpen:
        target = ""
    if channel.kind != "email" and target:
        target = httpx.URL(target).host
    return ChannelOut(
        id=channel.id,
        name=channel.name,
        kind=channel.kind,  # type: ignore[arg-type]
        target=target,
        enabled=channel.enabled,
        created_at=channel.created_at,
        updated_at=channel.updated_at,
        version=channel.version,
    )


def _told(body: ChannelIn) -> dict[str, Any]:
    """What the audit log gets: no secret."""
    return body.model_dump(exclude={"target"})
