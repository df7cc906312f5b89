"""What the list of workers can be filtered by, and its orders."""

from __future__ import annotations

from typing import Any, get_args

from conveyor.workers import Mode, WorkerInfo
from conveyor_console.kit.filters import ANY, Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.listing import Listing


def _read(info: WorkerInfo, attribute: str) -> Any:
    if attribute == "queues" and not info.queues:
        return ANY  # it serves them all
    if attribute in {"queues", "names"}:
        return " ".join(getattr(info, attribute))
    if attribute == "text":
        return f"{info.id} {info.host}"
    return getattr(info, attribute)


LISTING: Listing[WorkerInfo] = Listing(
    fields={
        "id": Field(Kind.TEXT, "id"),
        "host": Field(Kind.TEXT, "host"),
        "mode": Field(Kind.CHOICE, "mode", get_args(Mode)),
        "queue": Field(Kind.WORDS, "queues"),
        "task": Field(Kind.WORDS, "names"),
        "version": Field(Kind.TEXT, "code_version"),
        "running": Field(Kind.NUMBER, "running"),
        "concurrency": Field(Kind.NUMBER, "concurrency"),
        "stuck": Field(Kind.NUMBER, "stuck"),
        "rss": Field(Kind.NUMBER, "rss"),
        "lag": Field(Kind.SECONDS, "loop_lag"),
        "age": Field(Kind.AGE, "started_at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    keys={
        "id": "id",
        "host": "host",
        "started": "started_at",
        "running": "running",
        "rss": "rss",
        "lag": "loop_lag",
    },
    id="id",
    get=_read,
)
