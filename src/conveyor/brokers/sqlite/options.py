"""What a `sqlite://` URL says."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from conveyor.core.errors import InvalidURL

_OPTIONS = {
    "synchronous": "full or normal",
    "busy_timeout": "seconds from 0 to 60",
}


class Location(msgspec.Struct, frozen=True):
    """Which file, and how carefully."""

    path: str | None
    """None: in memory, for one broker."""
    synchronous: str = "full"
    """`full` survives a power cut; `normal` may lose the last moments in one, never consistency."""
    busy_timeout: float = 2.0
    """Seconds to wait for other processes that write, before `BrokerUnavailable`."""


def locate(url: str) -> Location:
    """Read `sqlite:///relative.db`, `sqlite:////absolute.db` or `sqlite://` (in memory).

    Raises `InvalidURL`.
    """
    parts = urlsplit(url)
    if not url[len(parts.scheme) :].startswith("://"):
        raise InvalidURL(
            f"broker URL {url!r} lacks slashes: write sqlite:///file.db for a file in the working "
            "directory, sqlite:////folder/file.db for an absolute path, sqlite:// for memory"
        )
    if parts.netloc:
        raise InvalidURL(
            f"broker URL {url!r} names a host: write sqlite:///file.db (three slashes) for a file "
            "in the working directory, sqlite:////folder/file.db for an absolute path"
        )
    if parts.fragment:
        raise InvalidURL(f"broker URL {url!r} has a '#': write %23 in a file name")
    path = unquote(parts.path.removeprefix("/"))
    if path.endswith("/"):
        raise InvalidURL(f"broker URL {url!r} names a folder: add the name of a file")
    where = Location(None if path in {"", ":memory:"} else path)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise InvalidURL(
                f"broker URL {url!r} has an unknown option {name!r}; SQLite knows {known}"
            )
        where = msgspec.structs.replace(where, **{name: _value(url, name, value)})
    return where


def _value(url: str, name: str, value: str) -> str | float:
    if name == "synchronous" and value.lower() in {"full", "normal"}:
        return value.lower()
    if name == "busy_timeout":
        with suppress(ValueError):
            if 0 <= float(value) <= 60:
                return float(value)
    raise InvalidURL(f"broker URL {url!r}: {name}={value!r} should be {_OPTIONS[name]}")
