"""From changes to frames of an event stream (WHATWG HTML §9.2). Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from conveyor.inspect import Event

MOST_ITEMS = 200
"""Tasks that one frame names; it counts all."""
COMMENT = b": \n\n"
"""A heartbeat: keeps proxies from closing the connection, and says nothing."""
_SPLIT = "~"
_CURSOR = re.compile(r"(?:[0-9a-f]{1,16}(?:[.-][0-9a-f]{1,16})*)?", re.ASCII)
"""What the cursors of all stores look like."""


def frame(name: str, data: Any, place: str = "") -> bytes:
    """Write one frame. `place` is what the browser sends back as `Last-Event-ID`."""
    head = f"id: {place}\n" if place else ""
    return (
        f"{head}event: {name}\n".encode()
        + b"data: "
        + orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
        + b"\n\n"
    )


def changes(events: Sequence[Event]) -> dict[str, Any]:
    """Say many changes of tasks in one: how many went to which state, by queue, and where the last
    of them are now."""
    queues: dict[str, Counter[str]] = {}
    latest: dict[str, Event] = {}
    for event in events:
        queues.setdefault(event.queue, Counter())[event.state] += 1
        latest.pop(event.id, None)
        latest[event.id] = event
    total: Counter[str] = Counter()
    for counts in queues.values():
        total.update(counts)
    return {
        "count": len(events),
        "counts": total,
        "queues": queues,
        "tasks": [_item(event) for event in list(latest.values())[-MOST_ITEMS:]],
        "more": max(0, len(latest) - MOST_ITEMS),
    }


def resync(reason: str, place: str = "") -> bytes:
    """Tell a reader that it missed something: it reads afresh what it shows."""
    return frame("resync", {"reason": reason}, place)


def place_of(cursor: str, notice_at: float) -> str:
    """Write down how far a stream is: the queue's cursor and the moment of the last notice (epoch
    seconds)."""
    return f"{cursor}{_SPLIT}{notice_at:.6f}"


def read_place(text: str) -> tuple[str, float] | None:
    """Read `Last-Event-ID`; None when it is none of ours."""
    cursor, split, at = text.rpartition(_SPLIT)
    try:
        moment = float(at)
    except ValueError:
        return None
    sane = 0 <= moment < 1e11 and _CURSOR.fullmatch(cursor) is not None
    return (cursor, moment) if split and sane else None


def notice(topic: str, at: str, data: Any) -> dict[str, Any]:
    """What a notice looks like in a stream and in a webhook."""
    return {"type": topic, "at": at, "data": data}


def by_state(events: Iterable[Event]) -> Counter[tuple[str, str]]:
    """Count changes by queue and state."""
    return Counter((event.queue, event.state) for event in events)


def _item(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "state": event.state,
        "queue": event.queue,
        "execution": event.execution,
        "at": event.at,
    }
