"""`Idempotency-Key`: a request that is repeated because its answer was lost has one effect."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Any

from conveyor_console.kit.problems import Problem

HEADER = "Idempotency-Key"
LONGEST = 255
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The same key with the same request has one effect, and the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^[ -~]*$"},
}
"""How OpenAPI describes it."""


def checked(key: str) -> str:
    """Return the key of a header. Raises `Problem` 422 for what is none."""
    if 0 < len(key) <= LONGEST and key.isascii() and key.isprintable():
        return key
    wrong = f"{HEADER} must be 1 to {LONGEST} printable ASCII characters"
    raise Problem(422, wrong, errors=[{"in": "header", "pointer": f"/{HEADER}", "detail": wrong}])


def task_key(principal_id: str, key: str) -> str:
    """Return the key of a task that is enqueued under a header: the queue itself then sees to it
    that there is one. Nobody gets at the tasks of somebody else by guessing keys."""
    return f"http:{principal_id}:{hashlib.sha256(key.encode()).hexdigest()[:40]}"


def effect_id(row_id: str, since: datetime) -> str:
    """Return the id of what a request makes outside our database (UUIDv8, RFC 9562): the
    millisecond of the first try, then of the hash that stands for who asked what under which key.
    Every try has the same one, so the queue sees a repeat for what it is."""
    at = f"{int(since.timestamp() * 1_000):012x}"
    variant = "89ab"[int(row_id[3], 16) & 3]
    return f"{at[:8]}-{at[8:]}-8{row_id[:3]}-{variant}{row_id[4:7]}-{row_id[7:19]}"


def fingerprint(secret: bytes, *parts: bytes) -> str:
    """Return what stands for a request in the store. Keyed: a body may hold a password, which
    must not be guessed from what is stored."""
    digest = hmac.new(secret, b"idempotency", "sha256")
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
