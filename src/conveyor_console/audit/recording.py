"""The outermost layer: gives every request an id, and lets none that changed something, or was
refused, leave without a row in the audit log."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conveyor_console.audit.models import Outcome
from conveyor_console.audit.seal import Sealer
from conveyor_console.audit.trail import Trail, default_note, entry, trail_of
from conveyor_console.auth.throttle import network
from conveyor_console.db.engine import Database
from conveyor_console.kit.addresses import Addresses
from conveyor_console.kit.clock import Clock

log = logging.getLogger("conveyor.console")
REQUEST_ID = "X-Request-ID"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
UNAUDITED = {
    ("POST", "/tasks"): "the task itself keeps who enqueued it (created_by)",
    ("POST", "/auth/refresh"): "a session goes on; that it began and how it ended is recorded",
    ("PUT", "/metrics/{name}"): "the value itself keeps who reported it",
}
"""Routes that change something and leave no row, and why. Their refusals do."""
TOLD = frozenset({"schedules", "workflows", "system"})
"""Nouns whose changes nothing else tells of: event streams do."""
Tell = Callable[[AsyncSession, str, datetime, str, Mapping[str, Any]], None]
"""Tells streams of something: session, an id, when, its topic, and what there is to say."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Auditor:
    """Writes the rows of requests."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        addresses: Addresses,
        clock: Clock,
        new_id: Callable[[], str],
        *,
        tell: Tell,
    ) -> None:
        self.new_id = new_id
        self._tell = tell
        self._database = database
        self._sealer = sealer
        self._addresses = addresses
        self._clock = clock
        self._refusals = Refusals(clock)

    def add(self, db: AsyncSession, request: Request) -> None:
        """Add what a request noted, or else its default, to a transaction about to commit."""
        trail = trail_of(request)
        notes = trail.notes
        if not notes and not trail.written and not exempt(request.scope):
            notes = [default_note(request.scope)]
        for note in notes:
            row = entry(
                note,
                entry_id=self.new_id(),
                at=self._clock.now(),
                request_id=trail.request_id,
                ip=self._addresses.of(request),
                principal=getattr(request.state, "principal", None),
            )
            db.add(row)
            if row.action.partition(".")[0] in TOLD:
                told = {"target": row.target, "by": row.actor, "detail": row.detail}
                self._tell(db, self.new_id(), row.at, row.action[:64], told)

    def added(self, trail: Trail) -> None:
        """Say that the transaction was committed."""
        trail.notes.clear()
        trail.written = True
        self._sealer.wake()

    async def leave(self, scope: Scope, trail: Trail, status: int) -> None:
        """Write what an answer leaves behind that no transaction wrote."""
        refused = status in {401, 403}
        if not refused and (status >= 400 or scope["method"] in SAFE or trail.written):
            return
        request = Request(scope)
        try:
            if refused:
                await self._refused(request, status)
            elif trail.notes or not exempt(scope):
                async with self._database.writing() as db:
                    self.add(db, request)
                self.added(trail)
        except (SQLAlchemyError, OSError):
            # The answer is made: that the log is not must not turn it into another.
            log.exception(
                "%s %s could not be written to the audit log", request.method, request.url.path
            )

    async def _refused(self, request: Request, status: int) -> None:
        ip = self._addresses.of(request)
        left_out = self._refusals.count(ip)
        if left_out is None:
            return
        trail = trail_of(request)
        note = trail.notes[-1] if trail.notes else default_note(request.scope)
        why = getattr(request.state, "problem", "")
        note.detail = f"{why} ({left_out} more were not written)" if left_out else why
        async with self._database.writing() as db:
            db.add(
                entry(
                    note,
                    entry_id=self.new_id(),
                    at=self._clock.now(),
                    request_id=trail.request_id,
                    ip=ip,
                    principal=getattr(request.state, "principal", None),
                    outcome=Outcome.REFUSED,
                    status=status,
                )
            )
        self._sealer.wake()


def exempt(scope: Scope) -> bool:
    """Whether this route leaves no row when it succeeds."""
    return (scope["method"], getattr(scope.get("route"), "path", "")) in UNAUDITED


@dataclass(slots=True)
class _Minute:
    began: float
    written: int = 0
    left_out: int = 0


class Refusals:
    """Bounds how fast somebody without rights can make the log grow: so many rows a minute from
    one network and from all; the others are counted, and the next row says how many."""

    PER_NETWORK, FROM_ALL, _MOST = 60, 1_000, 10_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._minutes: OrderedDict[str, _Minute] = OrderedDict()

    def count(self, ip: str) -> int | None:
        """Count a refusal: None when it is not to be written, else how many before were not."""
        place = network(ip)
        here, everywhere = self._minute(place), self._minute("*")
        if here.written >= self.PER_NETWORK or everywhere.written >= self.FROM_ALL:
            here.left_out += 1
            return None
        here.written += 1
        everywhere.written += 1
        left_out, here.left_out = here.left_out, 0
        return left_out

    def _minute(self, place: str) -> _Minute:
        now = self._clock.monotonic()
        minute = self._minutes.setdefault(place, _Minute(now))
        if now - minute.began >= 60:
            minute.began, minute.written = now, 0
        self._minutes.move_to_end(place)
        if len(self._minutes) > self._MOST:
            self._minutes.popitem(last=False)
        return minute


class Recorded:
    """The ASGI layer around the app."""

    def __init__(self, app: ASGIApp, *, auditor: Auditor) -> None:
        self._app = app
        self._auditor = auditor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        trail = Trail(given if _ID.fullmatch(given) else self._auditor.new_id())
        scope["state"] = {**scope.get("state", {}), "trail": trail}

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = trail.request_id
                await self._auditor.leave(scope, trail, message["status"])
            await send(message)

        await self._app(scope, receive, recorded)
