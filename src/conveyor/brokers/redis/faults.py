"""From what redis-py raises to what a broker may raise: one sentence, and never a password."""

from __future__ import annotations

import errno
import socket

from redis import exceptions as redis_errors

from conveyor.core.errors import BrokerError, BrokerFull, BrokerUnavailable

FAULTS = (redis_errors.RedisError, OSError, TimeoutError)
"""All that a conversation with a server may raise."""
_NO_LOGIN = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
)
_SILENT = (redis_errors.TimeoutError, TimeoutError)
_AWAY = {
    "READONLY": "is a replica and takes no writes; the primary may just have moved",
    "BUSY": "is busy with a script of somebody else",
    "UNKILLABLE": "is busy with a script of somebody else",
    "LOADING": "is still loading its data",
    "MASTERDOWN": "has lost its primary",
    "CLUSTERDOWN": "is part of a cluster that is down",
    "TRYAGAIN": "is moving this queue to another node",
    "NOREPLICAS": "takes no writes: not enough replicas are connected (min-replicas-to-write)",
}


_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ENOENT: "no such file",
    socket.EAI_NONAME: "no such host",
    socket.EAI_AGAIN: "no such host",
}


class Unanswered(BrokerUnavailable):
    """Something was sent, and whether it arrived is not known."""


def translate(error: BaseException, where: str, *, sent: bool = False) -> BrokerError:
    """Return what to raise for an error in talking to the server at `where` (host:port). `sent`
    says whether a command was on its way already.
    """
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, _NO_LOGIN):
        return BrokerUnavailable(
            f"Redis at {where} refused the login: {_first_line(error)}; "
            "check user, password and ACL in the broker URL"
        )
    if isinstance(error, redis_errors.BusyLoadingError):
        return BrokerUnavailable(f"Redis at {where} {_AWAY['LOADING']}; it is safe to try again")
    if isinstance(error, redis_errors.ResponseError):
        return _answered(error, where)
    kind = Unanswered if sent else BrokerUnavailable
    return kind(f"Redis at {where} {_absent(error)}")


def is_demoted(error: object) -> bool:
    """Whether the server says that it is no primary any more."""
    return isinstance(error, redis_errors.ReadOnlyError) or (
        isinstance(error, redis_errors.ResponseError) and "READONLY" in str(error)
    )


def _answered(error: redis_errors.ResponseError, where: str) -> BrokerError:
    code = getattr(error, "status_code", None)
    text = f"{code} {error}" if code else str(error)
    # Older servers wrap what a script met: "Error running script (…): @user_script:1: -OOM …".
    if "OOM " in text or "used memory > 'maxmemory'" in text:
        return BrokerFull(
            f"Redis at {where} is out of memory (maxmemory) and nothing was stored: "
            "let workers catch up, or raise maxmemory"
        )
    if "MISCONF" in text:
        return BrokerFull(
            f"Redis at {where} cannot write to its disk and nothing was stored: make room there"
        )
    for code, meaning in _AWAY.items():
        if text.startswith(code) or f"-{code} " in text:
            return BrokerUnavailable(f"Redis at {where} {meaning}; it is safe to try again")
    return BrokerUnavailable(f"Redis at {where} answered with an error: {text.splitlines()[0]}")


def _absent(error: BaseException) -> str:
    if isinstance(error, _SILENT):
        return "did not answer in time"
    if isinstance(error, redis_errors.RedisClusterException) and "mode is not" in str(error):
        return "is no cluster: write redis:// for a single server"
    return f"cannot be reached: {_why(error)}; is it running there?"


def _why(error: BaseException) -> str:
    """Return the operating system's own words where there are some: redis-py repeats the address
    around them."""
    cause = error if isinstance(error, OSError) else error.__context__
    told = isinstance(cause, OSError) and cause.errno
    if told in _WORDS:
        return _WORDS[told]
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
