"""Signatures of webhooks: `t=<epoch seconds>,v1=<hex>`, HMAC-SHA-256 over `<t>.<body>`. Pure.

While a secret is being rotated there is a `v1` for each: a receiver takes what one of them fits.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence

HEADER = "Conveyor-Signature"
PREFIX = "whsec_"


def make_secret() -> str:
    """Make a secret: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def signature(keys: Sequence[str], body: bytes, at: int) -> str:
    """Sign a body with each of the secrets."""
    signed = f"{at}.".encode() + body
    values = [hmac.new(key.encode(), signed, "sha256").hexdigest() for key in keys]
    return ",".join([f"t={at}", *(f"v1={value}" for value in values)])
