"""What goes wrong at the console's database, in terms of HTTP."""

from __future__ import annotations

import errno
import logging
import socket
import sqlite3

from fastapi import FastAPI, Request
from sqlalchemy import exc
from starlette.responses import Response

from conveyor_console.kit.problems import NOT_TEXT, Problem, response

log = logging.getLogger("conveyor.console")
_NOT_TEXT = frozenset({"22021", "22P05"})
"""What PostgreSQL says to a NUL in a text (SQLSTATE)."""
_TAKEN = frozenset({"23503", "23505"})
"""A key that refers to nothing, one that is there already. Of PostgreSQL: on SQLite writers take
turns, so no other comes between looking and writing."""
_AWAY = (
    *(exc.OperationalError, exc.InterfaceError, exc.TimeoutError),
    *(ConnectionError, TimeoutError, socket.gaierror),
)
_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def install(app: FastAPI) -> None:
    """Let errors of the database leave as problems: 422 for what it cannot keep, 503 when it does
    not answer."""

    @app.exception_handler(exc.SQLAlchemyError)
    @app.exception_handler(OSError)
    async def failed(request: Request, error: Exception) -> Response:
        if is_no_text(error):
            return response(request, Problem(422, NOT_TEXT))
        if is_taken(error):
            detail = "another request made the same, or took away what this one needs: look again"
            return response(request, Problem(409, detail))
        if is_crossed(error):
            detail = "another request was in the way and nothing was done: send it again"
            return response(request, Problem(503, detail, headers={"Retry-After": "1"}))
        if is_away(error):
            log.error(
                "%s %s: the database failed", request.method, request.url.path, exc_info=error
            )
            detail = "the console's database does not answer: try again in a moment"
            return response(request, Problem(503, detail, headers={"Retry-After": "2"}))
        raise error


def is_no_text(error: BaseException) -> bool:
    """Whether a statement failed because a text holds what no database keeps: NUL, or half of a
    surrogate pair."""
    if not isinstance(error, exc.StatementError):
        return False
    if getattr(error.orig, "sqlstate", None) in _NOT_TEXT:
        return True
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnicodeEncodeError):
        cause = cause.__cause__
    return cause is not None


def is_taken(error: BaseException) -> bool:
    """Whether another transaction came first: with the same name, or by deleting what this one
    refers to."""
    if not isinstance(error, exc.IntegrityError):
        return False
    return getattr(error.orig, "sqlstate", None) in _TAKEN


def is_crossed(error: BaseException) -> bool:
    """Whether PostgreSQL ended this transaction for the sake of another one (class 40: deadlocks,
    serialization): it may simply be repeated."""
    return _state(error).startswith("40")


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be asked now."""
    if _code(error) == sqlite3.SQLITE_ERROR:  # a wrong statement is "operational" too
        return False
    if isinstance(error, OSError) and error.errno in _NO_WAY:
        return True
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    # asyncpg: it shuts down, or has no connection left (class 53, 57P, 08).
    return lost or isinstance(error, _AWAY) or _state(error).startswith(("08", "53", "57P"))


def _state(error: BaseException) -> str:
    """Return what PostgreSQL said (SQLSTATE), nothing when it was not PostgreSQL."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def _code(error: BaseException) -> int | None:
    """Return what SQLite said, None when it was not SQLite."""
    code: int | None = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code
