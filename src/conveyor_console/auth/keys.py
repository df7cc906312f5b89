"""API keys: made once, shown once, kept as SHA-256."""

from __future__ import annotations

import base64
import secrets
from typing import NamedTuple

from conveyor_console.auth.tokens import digest_of

KEY_PREFIX = "cv_"
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class NewKey(NamedTuple):
    """A key that was just made. `text` is the key itself: it is shown, and forgotten."""

    text: str
    prefix: str
    digest: str


def make_key() -> NewKey:
    """Make a key `cv_live_<8 to know it by>_<32 random bytes>`, a form that scanners of leaked
    secrets can find."""
    known_by = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    random = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    prefix = f"{KEY_PREFIX}live_{known_by}"
    text = f"{prefix}_{random}"
    return NewKey(text, prefix, digest_of(text))
