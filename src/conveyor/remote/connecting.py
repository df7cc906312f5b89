"""Where a console is and how it is talked to; HTTP itself is httpx's."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from conveyor.core.errors import InvalidOption
from conveyor.remote.asking import Answer, Ask, Lost

if TYPE_CHECKING:
    import httpx

API = "/api/v1"


def library() -> ModuleType:
    """Return httpx. Raises `InvalidOption` where it is not installed."""
    try:
        import httpx
    except ModuleNotFoundError:
        raise InvalidOption("conveyor.remote needs httpx: pip install 'conveyor[remote]'") from None
    return httpx


def options_of(base_url: str, key: str, timeout: float) -> dict[str, Any]:
    """Return what both of httpx's clients are made with. Raises `InvalidOption`, never showing
    the key."""
    if timeout <= 0:
        raise InvalidOption(f"timeout={timeout:g}: seconds, more than 0")
    if not (key.startswith("cv_") and key.isascii() and key.isprintable() and " " not in key):
        raise InvalidOption("the API key begins with cv_: make one with POST /api/v1/api-keys")
    return {
        "base_url": address(base_url) + API,
        "headers": {"Authorization": f"Bearer {key}", "Accept": "application/json"},
        "timeout": timeout,
    }


def address(base_url: str) -> str:
    """Return where the console is, without a slash at the end. Raises `InvalidOption`."""
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname)
        named = parts.username is not None or bool(parts.query or parts.fragment)
    except ValueError:
        fits = named = False
    if not fits or not base_url.isprintable():
        raise InvalidOption(
            "the base URL of the console is http(s)://host, with a port or a path if need be"
        )
    if named:
        raise InvalidOption(
            "the base URL of the console has no user, query or fragment: the key says who asks"
        )
    return base_url.rstrip("/").removesuffix(API)


def headers_of(ask: Ask) -> dict[str, str]:
    """Return the headers of one request."""
    found = {} if ask.body is None else {"Content-Type": "application/json"}
    if ask.idempotency_key is not None:
        found["Idempotency-Key"] = ask.idempotency_key
    return found


def seconds_of(ask: Ask, most: float) -> float:
    """Return how long connecting, sending and each piece of an answer may take."""
    return most if ask.seconds is None else min(most, ask.seconds)


def answer_of(response: httpx.Response) -> Answer:
    """Return a response as the calls read it."""
    return Answer(response.status_code, response.headers, response.content)


def lost(error: httpx.RequestError) -> Lost:
    """Say what came of a request without an answer."""
    httpx = library()
    unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
    return Lost(f"{type(error).__name__}: {error}".rstrip(": "), not isinstance(error, unsent))
