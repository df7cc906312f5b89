"""One stream of what happens, as server-sent events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from conveyor_console.auth.access import Needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import console_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.live.live import Live
from conveyor_console.live.streams import Stream

_P = Permission
TOPICS: dict[str, Permission] = {
    "tasks": _P.TASKS_READ,
    "queues": _P.QUEUES_READ,
    "workers": _P.WORKERS_READ,
    "schedules": _P.SCHEDULES_READ,
    "workflows": _P.WORKFLOWS_READ,
    "alerts": _P.ALERTS_READ,
    "bulk-actions": _P.TASKS_READ,
    "webhooks": _P.WEBHOOKS_MANAGE,
    "system": _P.SYSTEM_READ,
}
"""What there is to read, and what one needs for it."""
router = APIRouter(prefix="/events", tags=["events"], responses=problems(401, 403, 422, 503))
Reading = Annotated[Principal, Depends(Needs(Permission.EVENTS_READ))]
Topics = Annotated[
    str,
    Query(max_length=200, description=f"Separated by commas: {', '.join(TOPICS)}."),
]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=8_000,  # on Redis a place has a number for each queue
        description="The `id` of the last frame that was read: the stream goes on after it.",
    ),
]
_FRAME = {
    "type": "object",
    "description": "A frame, as its fields say.",
    "properties": {
        "id": {"type": "string", "description": "Where the stream is: for `Last-Event-ID`."},
        "event": {"type": "string", "description": "A topic, or `hello`, `resync`, `end`."},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Frames, until one side ends it.",
        "content": {"text/event-stream": {"schema": _FRAME}},
    }
}


class Streaming(Response):
    """The answer that a stream is."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, stream: Stream) -> None:
        super().__init__()
        self._live = live
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        try:
            await self._stream.serve(receive, send)
        finally:
            self._live.streams.discard(self._stream)


@router.get("", status_code=200, response_class=Streaming, responses=_STREAM)
async def events(
    who: Reading,
    request: Request,
    topics: Topics = "tasks,queues,workers,alerts",
    last_event_id: LastEventId = None,
) -> Response:
    """Read what happens, as it happens (`text/event-stream`): at most four frames a second of each
    topic; many changes of tasks are one frame with their counts. After a `resync` frame read anew
    what you show. The stream ends when you may no longer read it."""
    console = console_of(request)
    wanted = _topics(topics)
    _must_be_allowed(who, wanted)
    if console.live.closing or len(console.live.streams) >= console.settings.max_streams:
        raise Problem(503, "too many event streams: try again later", headers={"Retry-After": "30"})

    async def allowed() -> bool:
        try:
            now = await console.gate.principal(request)
            _must_be_allowed(now, wanted)
        except Problem:
            return False
        return _P.EVENTS_READ in now.permissions

    return Streaming(console.live, await console.live.join(wanted, allowed, last_event_id))


def _topics(text: str) -> frozenset[str]:
    wanted = frozenset(part.strip() for part in text.split(",") if part.strip())
    unknown = sorted(wanted - TOPICS.keys())
    if unknown or not wanted:
        wrong = f"unknown topic {unknown[0]!r}" if unknown else "no topic"
        detail = f"{wrong}: there are {', '.join(TOPICS)}"
        raise Problem(422, detail, errors=[{"in": "query", "pointer": "/topics", "detail": detail}])
    return wanted


def _must_be_allowed(who: Principal, topics: frozenset[str]) -> None:
    for topic in sorted(topics):
        if TOPICS[topic] not in who.permissions:
            raise Problem(
                403,
                f"the topic {topic} needs the permission {TOPICS[topic].value}",
                permission=TOPICS[topic].value,
            )
