"""The class of routes that create something: they know `Idempotency-Key`."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from conveyor.errors import BrokerError, ConveyorError
from conveyor_console.audit.trail import trail_of
from conveyor_console.auth.access import must_have
from conveyor_console.auth.permissions import Permission
from conveyor_console.console import Console
from conveyor_console.db.idempotency import Claim, IdempotencyRow, answered, claim, leave, release
from conveyor_console.deps import console_of
from conveyor_console.kit import idempotency
from conveyor_console.kit.problems import Problem, problems

_KEPT_HEADERS = ("content-type", "etag", "location")
_NEEDED = "needed"
"""Beside the headers: the permission that let the first request in."""
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def effect_id(request: Request) -> str:
    """Return the id of what a request makes in the queue: a repeat under the same
    `Idempotency-Key` has the same, so that the queue makes it once, whatever died in between."""
    found: str | None = getattr(request.state, "effect_id", None)
    return console_of(request).new_id() if found is None else found


class Creating(APIRoute):
    """A route that answers a repeated request with its first answer, and has one effect. Give it
    as `route_class` of a router: it looks at POSTs that answer 201. The answer is kept in the
    transaction of `Writing`, so that a crash leaves both or neither; what is made in the queue has
    the id `effect_id`, so that a crash leaves it to a repeat that changes nothing."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if self.creates(options.get("methods"), options.get("status_code")):
            extra = dict(options.get("openapi_extra") or {})
            extra["parameters"] = [*extra.get("parameters", ()), idempotency.PARAMETER]
            options["openapi_extra"] = extra
            options["responses"] = {**problems(409, 422), **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)

    @staticmethod
    def creates(methods: Any, status: int | None) -> bool:
        """Whether a route with these is one that creates."""
        return set(methods or ()) == {"POST"} and status == 201

    def get_route_handler(self) -> Handler:
        """Wrap the handler."""
        handler = super().get_route_handler()
        if not self.creates(self.methods, self.status_code):
            return handler

        async def once(request: Request) -> Response:
            key = request.headers.get(idempotency.HEADER)
            if key is None:
                return await handler(request)
            return await _once(request, handler, idempotency.checked(key))

        return once


async def _once(request: Request, handler: Handler, key: str) -> Response:
    console = console_of(request)
    principal = await console.gate.principal(request)
    who = principal.key_id or principal.user_id
    secret, path = console.settings.secret, request.url.path
    claimed = Claim(
        idempotency.fingerprint(secret, who.encode(), path.encode(), key.encode()),
        console.new_id(),
    )
    asked = idempotency.fingerprint(secret, request.url.query.encode(), await request.body())
    async with console.database.writing() as db:
        before = await claim(db, claimed, asked, console.clock.now())
    if isinstance(before, IdempotencyRow):
        request.state.principal = principal
        return _again(request, console, before, asked)
    request.state.effect_id = idempotency.effect_id(claimed.id, before)
    try:
        response = await handler(request)
        await _keep(request, console, claimed, response)
    except Exception as exc:
        if (changes := getattr(request.state, "changes", None)) is not None:
            # Its transaction ends only behind us, and on SQLite there is one writer at a time.
            await changes.rollback()
        async with console.database.writing() as db:
            if _had_no_effect(exc):
                await release(db, claimed)
            else:
                await leave(db, claimed, console.clock.now())
        raise
    return response


def _had_no_effect(exc: Exception) -> bool:
    """Whether a request was refused before it did anything."""
    if isinstance(exc, Problem):
        return exc.status < 500
    if isinstance(exc, ConveyorError):
        return not isinstance(exc, BrokerError)
    return isinstance(exc, RequestValidationError)


def _again(request: Request, console: Console, row: IdempotencyRow, asked: str) -> Response:
    """Answer who comes again and still may. Raises `Problem` 403 and 409."""
    if row.request != asked:
        raise Problem(409, f"this {idempotency.HEADER} was used for another request: use a new one")
    if row.status is None or row.answer is None:
        raise Problem(
            409,
            "the first request with this key has not ended yet: try again in a moment",
            headers={"Retry-After": "1"},
        )
    try:
        sealed = row.answer
        plain = AESGCM(_key(console)).decrypt(sealed[:12], sealed[12:], row.id.encode())
    except InvalidTag:
        raise Problem(
            409, "this was done, but its answer cannot be read any more: the secret has changed"
        ) from None
    head, _, body = plain.partition(b"\n")
    headers = orjson.loads(head)
    if (needed := headers.pop(_NEEDED, None)) is not None:
        must_have(request.state.principal, Permission(needed))
    trail_of(request).written = True  # by the first request
    return Response(body, row.status, {**headers, "Idempotency-Replayed": "true"})


async def _keep(request: Request, console: Console, claimed: Claim, response: Response) -> None:
    """Keep the answer, with what it tells of when that is in our database. Raises `Problem` 409
    when this took so long that another request has the key now."""
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    if (needed := getattr(request.state, "needed", None)) is not None:
        headers[_NEEDED] = needed.value
    plain = orjson.dumps(headers) + b"\n" + bytes(response.body)
    nonce = secrets.token_bytes(12)
    sealed = nonce + AESGCM(_key(console)).encrypt(nonce, plain, claimed.id.encode())
    changes = getattr(request.state, "changes", None)
    if changes is not None:
        kept = await answered(changes, claimed, response.status_code, sealed)
    else:
        async with console.database.writing() as db:
            kept = await answered(db, claimed, response.status_code, sealed)
    if not kept:
        raise Problem(409, "this took too long: another request with this key is being made")


def _key(console: Console) -> bytes:
    return hmac.digest(console.settings.secret, b"answers under an idempotency key", "sha256")
