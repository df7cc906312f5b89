"""From what a connection raises to what a broker may raise: one sentence, and never a password."""

from __future__ import annotations

import errno
import socket

from conveyor.brokers.redis.wire import ReplyError
from conveyor.core.errors import BrokerError, BrokerFull, BrokerUnavailable

FAULTS = (ReplyError, OSError, TimeoutError)
"""All that a conversation with a server may raise."""
_NO_LOGIN = frozenset({"WRONGPASS", "NOAUTH", "NOPERM"})
_NO_LOGIN_WORDS = ("AUTH", "'auth'", "invalid password")
"""Of older servers, whose errors about it have no code of their own."""
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
    if isinstance(error, ReplyError):
        return _answered(error, where)
    kind = Unanswered if sent else BrokerUnavailable
    return kind(f"Redis at {where} {_absent(error)}")


def is_demoted(error: object) -> bool:
    """Whether the server says that it is no primary any more."""
    return isinstance(error, ReplyError) and "READONLY" in str(error)


def _answered(error: ReplyError, where: str) -> BrokerError:
    text = str(error)
    if _is_about_the_login(error):
        why = text.partition(" ")[2].splitlines()[0].rstrip(".")
        return BrokerUnavailable(
            f"Redis at {where} refused the login: {why}; "
            "check user, password and ACL in the broker URL"
        )
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
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    return f"cannot be reached: {_why(error)}; is it running there?"


def _why(error: BaseException) -> str:
    """Return a word for it where there is one: most errors repeat the address around theirs."""
    told = isinstance(error, OSError) and error.errno
    if told in _WORDS:
        return _WORDS[told]
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _is_about_the_login(error: ReplyError) -> bool:
    return error.code in _NO_LOGIN or (
        error.code == "ERR" and any(word in str(error) for word in _NO_LOGIN_WORDS)
    )
