"""From what redis-py raises to what a broker may raise: one sentence, and never a password."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis-py's own
    NoPermissionError,
    RedisError,
    ResponseError,
)

from conveyor.core.errors import BrokerError, BrokerFull, BrokerUnavailable

_AWAY = {
    "READONLY": "is a replica and takes no writes; the primary may just have moved",
    "BUSY": "is busy with a script of somebody else",
    "LOADING": "is still loading its data",
    "MASTERDOWN": "has lost its primary",
    "CLUSTERDOWN": "is part of a cluster that is down",
    "TRYAGAIN": "is moving this queue to another node",
    "NOREPLICAS": "takes no writes: not enough replicas are connected (min-replicas-to-write)",
    "UNKILLABLE": "is busy with a script of somebody else",
}


def translate(error: BaseException, where: str) -> BrokerError:
    """Return what to raise for an error of the server at `where` (host:port)."""
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return BrokerUnavailable(
            f"Redis at {where} refused the login: {_first_line(error)}; "
            "check user, password and ACL in the broker URL"
        )
    if isinstance(error, BusyLoadingError):
        return BrokerUnavailable(f"Redis at {where} {_AWAY['LOADING']}; it is safe to try again")
    if isinstance(error, ResponseError):
        return _answered(str(error), where)
    if isinstance(error, TimeoutError) or not str(error):
        return BrokerUnavailable(f"Redis at {where} did not answer in time")
    return BrokerUnavailable(f"Redis at {where} cannot be reached: {_first_line(error)}")


def is_moved(error: BaseException) -> bool:
    """Whether the server is no longer the primary: other connections to it are no use either."""
    return isinstance(error, ResponseError) and "READONLY" in str(error)


def is_about_the_connection(error: BaseException) -> bool:
    """Whether an error says nothing about the command."""
    return isinstance(error, (ConnectionError, OSError, TimeoutError)) or (
        isinstance(error, RedisError) and not isinstance(error, ResponseError)
    )


def _answered(text: str, where: str) -> BrokerError:
    # Older servers wrap a script's error: "Error running script (…): @user_script:1: -OOM …".
    if "OOM command not allowed" in text or "used memory > 'maxmemory'" in text:
        return BrokerFull(
            f"Redis at {where} is out of memory (maxmemory): nothing was stored; "
            "let workers catch up or raise maxmemory"
        )
    if "MISCONF" in text:
        return BrokerFull(
            f"Redis at {where} cannot write to its disk: nothing was stored; "
            "make room there (see its log)"
        )
    for code, meaning in _AWAY.items():
        if text.startswith(code) or f"-{code} " in text:
            return BrokerUnavailable(f"Redis at {where} {meaning}; it is safe to try again")
    return BrokerUnavailable(f"Redis at {where} answered with an error: {text.splitlines()[0]}")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
