"""What a `postgresql://` URL says."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import msgspec

from conveyor.core.errors import InvalidURL
from conveyor.core.urls import redact

_OWN = ("namespace", "timeout")
# What libpq calls these and asyncpg understands; anything else it would send to the server.
_LIBPQ = (
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "application_name",
    "target_session_attrs",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
_SECRET = ("password", "sslpassword")
_NAMESPACE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class Location(msgspec.Struct, frozen=True):
    """Which server, database and schema, and how long to wait for it."""

    dsn: str
    """With the password: for asyncpg only."""
    shown: str
    """The URL without its passwords."""
    where: str
    """`PostgreSQL at host:port`, for messages."""
    namespace: str = "conveyor"
    timeout: float = 5.0
    """Seconds a call may take."""


def locate(url: str) -> Location:
    """Read a URL. Raises `InvalidURL`."""
    parts = urlsplit(url)
    own: dict[str, str] = {}
    rest: list[tuple[str, str]] = []
    visible: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _OWN:
            own[name] = value
        elif name in _LIBPQ:
            rest.append((name, value))
        else:
            raise InvalidURL(
                f"broker URL {_bare(url)!r} has an unknown option {name!r}; PostgreSQL knows "
                f"{', '.join(_OWN + _LIBPQ)}"
            )
        visible.append((name, "***" if name in _SECRET else value))
    shown = redact(_joined(parts, parts.scheme, urlencode(visible, safe="*/")))
    asked = dict(rest)
    server = _server(url, asked)
    for host in server.split(","):
        port = host.rpartition(":")[2]
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            raise InvalidURL(f"broker URL {shown!r}: port {port!r} should be from 1 to 65535")
    return Location(
        dsn=_joined(parts, "postgresql", urlencode(rest)),
        shown=shown,
        where=f"PostgreSQL at {server}",
        namespace=_namespace(shown, own.get("namespace", "conveyor")),
        timeout=_timeout(shown, own.get("timeout", "5")),
    )


def _joined(parts: SplitResult, scheme: str, query: str) -> str:
    # Not urlunsplit: it leaves out the slashes of a URL that names no host.
    return f"{scheme}://{parts.netloc}{parts.path}{'?' if query else ''}{query}"


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return redact(_joined(parts, parts.scheme, ""))


def _server(url: str, asked: dict[str, str]) -> str:
    hosts = urlsplit(url).netloc.rpartition("@")[2] or asked.get("host", "") or "localhost"
    port = asked.get("port", "5432")
    return ",".join(
        host if re.search(r":\d+$", host) else f"{host}:{port}" for host in hosts.split(",")
    )


def _namespace(shown: str, name: str) -> str:
    if not _NAMESPACE.fullmatch(name) or name.startswith("pg_"):
        raise InvalidURL(
            f"broker URL {shown!r}: namespace={name!r} should be the name of a schema: small "
            "letters, digits and _, at most 63, not starting with a digit or pg_"
        )
    return name


def _timeout(shown: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3_600:
        raise InvalidURL(f"broker URL {shown!r}: timeout={text!r} should be seconds above 0")
    return seconds
