"""URLs as they may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&#]*", re.IGNORECASE)


def redact(url: str) -> str:
    """Return the URL with its passwords replaced, fit for logs and messages."""
    url = _IN_QUERY.sub(r"\1***", url)
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    if not colon:
        return url
    shown = f"{user}:***" if user else "***"
    return urlunsplit(parts._replace(netloc=f"{shown}@{host}"))
