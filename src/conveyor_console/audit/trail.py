"""What a request leaves behind. Routes note what they change; what they do not note is noted for
them, so that nothing is forgotten."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request

from conveyor_console.audit.models import AuditEntry, Outcome
from conveyor_console.auth.models import User
from conveyor_console.auth.principals import Principal

_SECRET = re.compile(
    r"password|passwd|secret|token|authorization|cookie|credential|private|digest|hash|smtp",
    re.IGNORECASE,
)
_HIDDEN = "•••"
_MOST_JSON = 32_768


@dataclass(slots=True)
class Note:
    """One thing that a request did."""

    action: str
    target: str = ""
    detail: str = ""
    before: Any = None
    after: Any = None
    user_id: str | None = None
    actor: str | None = None


@dataclass(slots=True)
class Trail:
    """What one request did so far. `ip` is filled in when something is written."""

    request_id: str
    notes: list[Note] = field(default_factory=list)
    written: bool = False


def trail_of(request: Request) -> Trail:
    """Return the trail of a request."""
    found: Trail = request.scope["state"]["trail"]
    return found


def note(
    request: Request,
    action: str,
    target: str = "",
    *,
    detail: str = "",
    before: Any = None,
    after: Any = None,
    who: User | None = None,
) -> None:
    """Note what this request changes: `action` as `noun.verb`, `target` as `noun:id`, `before` and
    `after` as what JSON can say (secrets are blanked by their names). It is written in the
    transaction of `Writing`. `who` is for requests that have no principal yet, as a sign-in."""
    user_id, actor = (None, None) if who is None else (who.id, who.email)
    trail_of(request).notes.append(Note(action, target, detail, before, after, user_id, actor))


def default_note(scope: Mapping[str, Any]) -> Note:
    """Say what a request did that noted nothing: its route, and the ids in its path."""
    route = scope.get("route")
    if route is None:
        return Note("request", scope["path"])
    tags = getattr(route, "tags", None) or ["request"]
    ids = " ".join(f"{name}:{value}" for name, value in scope.get("path_params", {}).items())
    return Note(f"{tags[0]}.{route.name}", ids or scope["path"])


def entry(
    note: Note,
    *,
    entry_id: str,
    at: datetime,
    request_id: str,
    ip: str,
    principal: Principal | None,
    outcome: Outcome = Outcome.DONE,
    status: int | None = None,
) -> AuditEntry:
    """Make the row of a note. It cannot fail for what somebody sent: text is cut and made
    printable."""
    actor = note.actor if note.actor is not None else principal.name if principal else ""
    user_id = note.user_id or (principal.user_id if principal else None)
    return AuditEntry(
        id=entry_id,
        at=at,
        user_id=user_id,
        actor=printable(actor, 300),
        key_id=principal.key_id if principal else None,
        action=printable(note.action, 100),
        target=printable(note.target, 300),
        outcome=outcome.value,
        status=status,
        detail=printable(note.detail, 500),
        before=_json(note.before),
        after=_json(note.after),
        ip=printable(ip, 45),
        request_id=request_id,
    )


def printable(text: str, most: int) -> str:
    r"""Return text as one line: what controls terminals, or begins new lines, is written as
    `\x1b`."""
    safe = "".join(
        char
        if unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}
        else char.encode("unicode_escape").decode()
        for char in text[:most]
    )
    return safe if len(safe) <= most else safe[: most - 1] + "…"


def without_secrets(value: Any) -> Any:
    """Return a copy in which everything is blank whose name sounds secret."""
    if isinstance(value, Mapping):
        return {
            str(name): _HIDDEN if _SECRET.search(str(name)) else without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [without_secrets(inner) for inner in value]
    return value


def _json(value: Any) -> str | None:
    if value is None:
        return None
    try:
        text = orjson.dumps(
            without_secrets(value), default=str, option=orjson.OPT_SORT_KEYS
        ).decode()
    except TypeError:
        # Lone surrogates, integers beyond 64 bits: what JSON cannot say is said as Python would.
        text = orjson.dumps(ascii(value)).decode()
    return text if len(text) <= _MOST_JSON else orjson.dumps({"bytes": len(text)}).decode()
