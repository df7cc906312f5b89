"""From a URL to a broker: the only place that knows which stores there are."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from conveyor.core.errors import InvalidURL
from conveyor.core.urls import redact

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock

_STORES = {
    "sqlite": ("conveyor.brokers.sqlite.broker", "SQLiteBroker", "conveyor"),
    "postgresql": ("conveyor.brokers.postgres.broker", "PostgresBroker", "conveyor[postgres]"),
    "postgres": ("conveyor.brokers.postgres.broker", "PostgresBroker", "conveyor[postgres]"),
    "redis": ("conveyor.brokers.redis.broker", "RedisBroker", "conveyor[redis]"),
    "rediss": ("conveyor.brokers.redis.broker", "RedisBroker", "conveyor[redis]"),
    "valkey": ("conveyor.brokers.redis.broker", "RedisBroker", "conveyor[redis]"),
    "valkeys": ("conveyor.brokers.redis.broker", "RedisBroker", "conveyor[redis]"),
}


def connect(url: str, *, clock: Clock | None = None) -> Broker:
    """Make the broker a URL names; nothing is connected until `open()`.

    With a `clock`, times come from it and not from the server (for tests). Raises `InvalidURL`.
    """
    if not url.isprintable():
        raise InvalidURL(f"broker URL {redact(url)!r} holds a character that no URL may")
    scheme = urlsplit(url).scheme.partition("+")[0].lower()
    if scheme not in _STORES:
        raise InvalidURL(
            f"broker URL {redact(url)!r} has an unknown scheme {scheme!r}; use "
            "sqlite:///file.db, postgresql://… or redis://…"
        )
    module, cls, extra = _STORES[scheme]
    try:
        broker: Broker = getattr(import_module(module), cls)(url, clock=clock)
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("conveyor"):
            raise
        raise InvalidURL(
            f"broker URL {redact(url)!r} needs the package {exc.name!r}: pip install '{extra}'"
        ) from exc
    return broker


async def opened(url: str, *, clock: Clock | None = None) -> Broker:
    """Make the broker a URL names and open it; one that cannot be opened is closed again.

    Raises what `connect` and `Broker.open` raise.
    """
    broker = connect(url, clock=clock)
    try:
        await broker.open()
    except BaseException:
        await broker.close()
        raise
    return broker
