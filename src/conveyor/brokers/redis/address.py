"""What a `redis://` URL says: where the server is, and how to use it."""

from __future__ import annotations

import re
from itertools import starmap
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from conveyor.core.errors import InvalidURL
from conveyor.core.urls import redact

_OPTIONS = {
    "namespace": "up to 64 letters, digits, '_', '-' or '.'",
    "durability": "fast, fsync or replicated",
    "timeout": "seconds above 0 and at most 60",
    "ca": "the path of a file with certificates to trust (rediss:// only)",
    "db": "the number of a database (Unix sockets only)",
}
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_KINDS = {"": "server", "unix": "unix", "sentinel": "sentinel", "cluster": "cluster"}
_PORTS = {"sentinel": 26379}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed broker URL."""

    kind: str
    """server, unix, sentinel or cluster."""
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    """Of the Unix socket."""
    service: str = ""
    """The primary's name among the Sentinels."""
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca: str | None = None
    namespace: str = "conveyor"
    durability: str = "auto"
    timeout: float = 2.0
    """Seconds until a call counts as unanswered."""

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"<address {self.shown}>"

    @property
    def shown(self) -> str:
        """The address for people."""
        if self.kind == "unix":
            return self.path
        hosts = ",".join(starmap(show, self.hosts))
        return f"{self.service} of the Sentinels {hosts}" if self.kind == "sentinel" else hosts


def show(host: str, port: int) -> str:
    """Return `host:port` for people."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(url: str) -> Address:
    """Read a broker URL:

    - `redis://user:password@host:port/db`, with TLS `rediss://…`
    - `redis+unix:///run/redis.sock?db=0`
    - `redis+sentinel://host:port,host:port/service/db`
    - `redis+cluster://host:port,host:port`

    `valkey` and `valkeys` mean the same as `redis` and `rediss`. Raises `InvalidURL`.
    """
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.lower().partition("+")
    if kind not in _KINDS:
        raise InvalidURL(
            f"broker URL {redact(url)!r} has an unknown kind {kind!r}: "
            "redis://, redis+unix://, redis+sentinel:// or redis+cluster://"
        )
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    kind = _KINDS[kind]
    tls = scheme in {"rediss", "valkeys"}
    fields: dict[str, Any] = {
        "kind": kind,
        "username": unquote(user) or None,
        "password": unquote(password) or None,
        "tls": tls,
        **_options(url, parts.query),
    }
    if "db" in fields and kind != "unix":
        raise InvalidURL(f"broker URL {redact(url)!r}: write the database as …/{fields['db']}")
    if "ca" in fields and not tls:
        raise InvalidURL(f"broker URL {redact(url)!r}: ca= needs rediss://")
    if kind == "unix":
        return Address(path=_socket(url, hosts, unquote(parts.path)), **fields)
    fields["hosts"] = _hosts(url, hosts, _PORTS.get(kind, 6379))
    return Address(**fields, **_place(url, kind, unquote(parts.path)))


def _socket(url: str, host: str, path: str) -> str:
    if host or not path.strip("/"):
        raise InvalidURL(
            f"broker URL {redact(url)!r} names no socket: redis+unix:///path/of.sock, three slashes"
        )
    return path


def _hosts(url: str, netloc: str, default: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for entry in netloc.split(","):
        match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::(\d{1,5}))?", entry)
        port = int(match[3] or default) if match else 0
        if match is None or not 0 < port < 65536:
            raise InvalidURL(f"broker URL {redact(url)!r}: {entry!r} is not host:port")
        hosts.append((match[1] or match[2] or "localhost", port))
    return tuple(hosts)


def _place(url: str, kind: str, path: str) -> dict[str, Any]:
    """Read what follows the hosts: a database, or a service and a database."""
    words = [word for word in path.split("/") if word]
    place: dict[str, Any] = {}
    if kind == "sentinel":
        if not words:
            raise InvalidURL(
                f"broker URL {redact(url)!r} names no service: "
                "redis+sentinel://host:port,host:port/service/0"
            )
        place["service"] = words.pop(0)
    if not words:
        return place
    if len(words) > 1 or not words[0].isdecimal() or kind == "cluster":
        wanted = "a cluster has no databases" if kind == "cluster" else "a number was expected"
        raise InvalidURL(f"broker URL {redact(url)!r} ends in {'/'.join(words)!r}: {wanted}")
    return {**place, "db": int(words[0])}


def _options(url: str, query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise InvalidURL(
                f"broker URL {redact(url)!r} has an unknown option {name!r}; Redis knows {known}"
            )
        read = _value(name, value)
        if read is None:
            raise InvalidURL(
                f"broker URL {redact(url)!r}: {name}={value!r} should be {_OPTIONS[name]}"
            )
        options[name] = read
    return options


def _value(name: str, value: str) -> str | float | int | None:
    """Return the value, or None when it makes no sense."""
    if name == "namespace":
        return value if _NAMESPACE.match(value) else None
    if name == "durability":
        return value if value in {"fast", "fsync", "replicated"} else None
    if name == "db":
        return int(value) if value.isdecimal() else None
    if name == "ca":
        return value or None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds <= 60 else None
