"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) under keys derived from CONVEYOR_SECRET_KEY.

What is sealed names its key, so a new CONVEYOR_SECRET_KEY can be introduced while the former one
(CONVEYOR_PREVIOUS_SECRET_KEYS) still opens what it sealed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_FORM = "v1"
_NONCE = 12


class CannotOpen(Exception):
    """It was sealed with a key that is not here, or for something else, or it was changed."""


class Vault:
    """Seals with `secret`, opens also what was sealed with the `former` ones."""

    def __init__(self, secret: bytes, former: Sequence[bytes] = ()) -> None:
        keys = [_derived(one) for one in (secret, *former)]
        self.key_id = _id_of(keys[0])
        self._ciphers = {_id_of(key): AESGCM(key) for key in keys}

    def seal(self, plain: str, purpose: str) -> str:
        """Seal a text for one purpose, e.g. `webhook:<id>`: nowhere else will it open."""
        nonce = os.urandom(_NONCE)
        sealed = self._ciphers[self.key_id].encrypt(nonce, plain.encode(), purpose.encode())
        return f"{_FORM}.{self.key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, purpose: str) -> str:
        """Return the text. Raises `CannotOpen`."""
        form, _, rest = sealed.partition(".")
        key_id, _, data = rest.partition(".")
        cipher = self._ciphers.get(key_id)
        if form != _FORM or cipher is None:
            raise CannotOpen(
                f"a secret was sealed with the key {key_id!r}, which is not here: give the former "
                "CONVEYOR_SECRET_KEY as CONVEYOR_PREVIOUS_SECRET_KEYS"
            )
        try:
            raw = base64.urlsafe_b64decode(data)
            return cipher.decrypt(raw[:_NONCE], raw[_NONCE:], purpose.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise CannotOpen(f"the secret of {purpose} was changed or belongs elsewhere") from None


def _derived(secret: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"conveyor console: secrets at rest").derive(secret)


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"key id:" + key).hexdigest()[:8]
