"""One request, again and again until it is answered: when, how often, and when to give up. Pure:
what is to be done is yielded, and what came of it is sent in."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypeAlias, TypeVar

from conveyor.core.errors import RemoteUnavailable
from conveyor.remote.refusing import sentence_of

T = TypeVar("T")
_FIRST, _LONGEST = 0.2, 10.0
"""Seconds before the second try, at most between two."""
NOT_DONE = frozenset({429, 503})
"""Statuses that say: not done, come back later."""
_PERHAPS = frozenset({502, 504})
"""Statuses of a proxy that lost sight of the console."""


class Ask(NamedTuple):
    """A request."""

    method: str
    path: str
    """Below `/api/v1`."""
    body: bytes | None = None
    idempotency_key: str | None = None
    repeats: bool = True
    """Whether it may be made again when nobody knows whether it was done."""
    seconds: float | None = None
    """How long its answer may take; None: as long as that of any request."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    tries: int = 1


class Lost(NamedTuple):
    """Nothing came back."""

    why: str
    sent: bool
    """Whether the console may have got the request."""


class Pause(NamedTuple):
    """Wait."""

    seconds: float


Steps: TypeAlias = Generator[Ask | Pause, Answer | Lost | None, T]
"""Something that takes requests and pauses and ends with a value."""


class Patience(NamedTuple):
    """How long to keep trying."""

    seconds: float
    """From the first try on; a pause that would end later is not begun."""
    monotonic: Callable[[], float]
    now: Callable[[], float]
    """Epoch seconds."""
    dice: Callable[[], float]


def asked(ask: Ask, patience: Patience) -> Steps[Answer]:
    """Make a request until it is answered. Raises `RemoteUnavailable` when patience runs out, and
    at once when it must not be repeated and may have been done."""
    began, tries = patience.monotonic(), 0
    while True:
        got = yield ask
        tries += 1
        if isinstance(got, Answer) and got.status not in NOT_DONE | _PERHAPS:
            return got._replace(tries=tries)
        if got is None:
            raise TypeError("a request was not made")
        wanted = _retry_after(got, patience.now())
        pause = _backoff(tries, patience.dice()) if wanted is None else wanted
        over = patience.monotonic() - began + pause > patience.seconds
        if over or (_may_be_done(got) and not ask.repeats):
            raise _unavailable(ask, got, tries, wanted)
        yield Pause(pause)


def _may_be_done(got: Answer | Lost) -> bool:
    return got.sent if isinstance(got, Lost) else got.status in _PERHAPS


def _backoff(tries: int, roll: float) -> float:
    """Between half of and the whole of 0.2 s, 0.4 s, … 10 s."""
    return min(_FIRST * 2.0 ** min(tries - 1, 10), _LONGEST) * (0.5 + roll / 2)


def _retry_after(got: Answer | Lost, now: float) -> float | None:
    """Return the seconds that an answer asks to wait (RFC 9110 §10.2.3), None when it does not."""
    text = got.headers.get("retry-after", "") if isinstance(got, Answer) else ""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment: datetime = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, aware.timestamp() - now)


def _unavailable(
    ask: Ask, got: Answer | Lost, tries: int, wanted: float | None
) -> RemoteUnavailable:
    status = got.status if isinstance(got, Answer) else None
    said = got.why if isinstance(got, Lost) else sentence_of(got.status, got.body)
    done = None if _may_be_done(got) else False
    known = "nothing was done" if done is False else "nobody knows whether it was done"
    wait = "" if wanted is None else f"; it asks to come back in {wanted:g} s"
    return RemoteUnavailable(
        f"{ask.method} {ask.path}: no answer after {tries} "
        f"{'try' if tries == 1 else 'tries'} ({said}); {known}{wait}",
        status,
        done=done,
        retry_after=wanted,
    )
