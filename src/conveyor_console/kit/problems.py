"""Errors as `application/problem+json` (RFC 9457): what was wrong, where, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response

from conveyor import errors

log = logging.getLogger("conveyor.console")
MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 100
"""Fields that one answer says are wrong."""
NOT_TEXT = "a text holds what cannot be kept: a NUL, or half a character, as \\ud800"
_TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    410: "No longer there",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Not JSON",
    421: "Not this host",
    422: "Invalid input",
    428: "If-Match is missing",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}


class Problem(Exception):
    """An answer that is an error. `detail` is a sentence for people; `errors` point at fields."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers
        self.more = more


def response(request: Request, problem: Problem) -> Response:
    """Render a problem."""
    request.state.problem = problem.detail  # for the audit log
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        **problem.more,
    }
    if problem.errors:
        body["errors"] = list(problem.errors)
    return Response(
        orjson.dumps(body), problem.status, dict(problem.headers or {}), media_type=MEDIA_TYPE
    )


class ProblemOut(BaseModel):
    """An error as RFC 9457 describes it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str | None = None
    """The queue's own error, as `conveyor.errors` names it; then also what it is about: `task_id`,
    `key`, `name`, …"""
    errors: list[dict[str, Any]] = []
    """Which fields were wrong: `in`, `pointer` (RFC 6901), `detail`."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document these answers of a route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
    return {
        status: {"description": _TITLES.get(status, "Error"), "content": content}
        for status in statuses
    }


_STATUSES: tuple[tuple[type[errors.ConveyorError], int], ...] = (
    (errors.TaskNotFound, 404),
    (errors.ScheduleNotFound, 404),
    (errors.ScheduleChanged, 412),
    (errors.WorkerNotFound, 404),
    (errors.WorkflowNotFound, 404),
    (errors.IdempotencyConflict, 409),
    (errors.NotUnique, 409),
    (errors.ResultExpired, 410),
    (errors.PayloadTooLarge, 413),
    (errors.BrokerFull, 503),
    (errors.BrokerError, 503),
    (errors.UnknownTask, 422),
    (errors.InvalidArguments, 422),
    (errors.NotSerialisable, 422),
    (errors.InvalidOption, 422),
)
"""What the queue's own errors are over HTTP, the most special first."""


_ABOUT = frozenset({"key", "name", "run_id", "task_id", "version", "worker_id"})


def of_queue_error(error: errors.ConveyorError) -> Problem:
    """Say an error of the queue in terms of HTTP."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            headers = {"Retry-After": "2"} if status == 503 else None
            return Problem(status, str(error), headers=headers, **_facts(error))
    return Problem(400, str(error), **_facts(error))


def _facts(error: errors.ConveyorError) -> dict[str, Any]:
    """What programs read instead of the sentence: the error's name, and what it is about."""
    about = {name: value for name, value in vars(error).items() if name in _ABOUT}
    return {"error": type(error).__name__, **about}


def install(app: FastAPI, methods_at: Callable[[str], Collection[str]]) -> None:
    """Let every error of the app leave as a problem. `methods_at` says what there is at a path:
    routes that share one are known to Starlette one by one only."""

    @app.exception_handler(Problem)
    async def problem(request: Request, exc: Problem) -> Response:
        return response(request, exc)

    @app.exception_handler(errors.ConveyorError)
    async def queue_error(request: Request, exc: errors.ConveyorError) -> Response:
        return response(request, of_queue_error(exc))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, exc: HTTPException) -> Response:
        detail = str(exc.detail or _TITLES.get(exc.status_code, "Error"))
        if exc.status_code == 404 and detail == "Not Found":
            detail = f"there is nothing at {request.url.path}"
        headers = exc.headers
        if exc.status_code == 405:
            methods = methods_at(request.url.path)
            return response(request, _not_for_this(request, methods, headers or {}))
        return response(request, Problem(exc.status_code, detail, headers=headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> Response:
        errors = exc.errors()
        found = [_field_error(error) for error in errors[:MOST_ERRORS]]
        first = found[0]
        # `/tasks/bulk` is no task with a wrong id, even for a method that there is for tasks only.
        if first["in"] == "path" and request.method not in (
            methods := methods_at(request.url.path) or {request.method}
        ):
            return response(request, _not_for_this(request, methods, {}))
        where = first["pointer"] or first["in"]
        rest = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return response(request, Problem(422, f"{where}: {first['detail']}{rest}", errors=found))

    @app.exception_handler(UnicodeEncodeError)
    async def half_a_character(request: Request, _: UnicodeEncodeError) -> Response:
        # JSON can write half of a surrogate pair; no store can keep it.
        return response(request, Problem(422, NOT_TEXT))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, exc: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=exc)
        return response(request, Problem(500, "something went wrong; the log of the console knows"))


def _not_for_this(
    request: Request, methods: Collection[str], headers: Mapping[str, str]
) -> Problem:
    """The answer to a method that a path does not have (RFC 9110 §15.5.6)."""
    allow = ", ".join(sorted(methods)) or headers.get("Allow", "")
    detail = f"{request.method} is not for {request.url.path}: there is {allow or 'no method'}"
    return Problem(405, detail, headers={"Allow": allow})


def _field_error(error: Mapping[str, Any]) -> dict[str, Any]:
    place, *path = error["loc"]
    pointer = "".join(f"/{_escaped(str(part))}" for part in path)
    return {
        "in": str(place),
        "pointer": pointer,
        "detail": str(error["msg"]).removeprefix("Value error, "),
    }


def _escaped(part: str) -> str:
    """Escape a step of a JSON pointer (RFC 6901 §3)."""
    return part.replace("~", "~0").replace("/", "~1")
