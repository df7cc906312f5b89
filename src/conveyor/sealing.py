"""Encryption of chosen arguments: AES-256-GCM with named keys (NIST SP 800-38D).

    app = Conveyor(keys=Keyring({"2026-11": key}))

    @app.task(encrypt=("card",))
    async def charge(customer: int, card: str) -> None: ...

A sealed argument is bound to its task: to its id (in a workflow to the run and the node, in a
schedule to that), its name and its place in the call. To rotate, add a key and make it the current
one; old keys stay until nothing sealed with them is left.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conveyor.core.envelope import Call, Sealed
from conveyor.core.errors import InvalidOption
from conveyor.core.run import parse_flow
from conveyor.core.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from conveyor.core.signature import Signature

__all__ = ["Keyring"]

_KEY_BYTES, _NONCE_BYTES = 32, 12
_ID = 40
"""Characters of a key id: fewer than the base64 of a key has."""


class Keyring:
    """Keys by id, and the one to seal with: the last one given, or `current`.

    A key is 32 bytes, or their base64: `openssl rand -base64 32`. Needs the extra
    `conveyor[crypto]`. Raises `InvalidOption`, never showing a key.
    """

    def __init__(self, keys: Mapping[str, bytes | str], current: str | None = None) -> None:
        given: Any = keys
        if not isinstance(given, Mapping) or not given:
            raise InvalidOption("Keyring: a dict of key ids and keys, one at least")
        self._ciphers = {key_id: _cipher(key_id, key) for key_id, key in keys.items()}
        self._nonces = {key_id: _nonce_key(key) for key_id, key in keys.items()}
        self.current = current if current is not None else list(keys)[-1]
        if self.current not in self._ciphers:
            raise InvalidOption(f"Keyring(current={self.current!r}): no such key")

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the keys that can open."""
        return frozenset(self._ciphers)

    def seal(
        self,
        call: Call,
        task: Task,
        fields: Iterable[str],
        signature: Signature,
        *,
        steady: bool = False,
    ) -> list[Sealed]:
        """Encrypt these arguments of a call, putting nil in their place. `steady`: the same
        arguments of the same task look the same each time they are sealed.
        """
        sealed: list[Sealed] = []
        nil = type(call.args[0] if call.args else next(iter(call.kwargs.values())))(b"\xc0")
        for name in fields:
            where = signature.place(name, len(call.args), call.kwargs)
            if where is None:
                continue
            plain = bytes(call.args[where] if isinstance(where, int) else call.kwargs[where])
            cipher, bound = self._ciphers[self.current], _bound_to(task, where)
            nonce = self._nonce(bound, plain) if steady else os.urandom(_NONCE_BYTES)
            data = cipher.encrypt(nonce, plain, bound)
            sealed.append(Sealed(where, self.current, nonce, data))
            if isinstance(where, int):
                call.args[where] = nil
            else:
                call.kwargs[where] = nil
        return sealed

    def open(self, task: Task, field: Sealed) -> bytes:
        """Decrypt one argument. Raises `ValueError` when it was not sealed for this task, or was
        changed since, `LookupError` when its key is not here.
        """
        from cryptography.exceptions import InvalidTag

        cipher = self._ciphers.get(field.key_id)
        if cipher is None:
            raise LookupError(f"the key {field.key_id!r} of a sealed argument is not here")
        try:
            return cipher.decrypt(field.nonce, field.data, _bound_to(task, field.where))
        except (InvalidTag, ValueError):
            raise ValueError(
                f"the sealed argument {field.where!r} is damaged, or was sealed for another task"
            ) from None

    def _nonce(self, bound: bytes, plain: bytes) -> bytes:
        """Return a nonce that only the same text in the same place gets again, from a keyed hash:
        as unguessable as a random one, and never the same for two texts."""
        text = len(bound).to_bytes(4) + bound + plain
        key = self._nonces[self.current]
        return hashlib.blake2b(text, key=key, digest_size=_NONCE_BYTES).digest()

    def __repr__(self) -> str:
        return f"<keyring of {len(self._ciphers)} key(s), current {self.current!r}>"


def _bound_to(task: Task, where: int | str) -> bytes:
    return f"{_seat(task)}\0{task.name}\0{where!r}".encode()


def _seat(task: Task) -> str:
    """Return what a task is that is known when its arguments are sealed. A node is sealed with its
    graph, before its task has an id, and once for all its retries and children; so is a schedule,
    for all its fires."""
    terms = task.terms
    if terms is not None and terms.flow is not None:
        return f"{parse_flow(terms.flow)[0]}/{terms.node}"
    if terms is not None and terms.schedule is not None:
        return f"schedule {terms.schedule}"
    return task.id


def _nonce_key(key: bytes | str) -> bytes:
    # A key of its own: one key is not to serve two purposes.
    raw = base64.b64decode(key) if isinstance(key, str) else key
    return hashlib.blake2b(b"nonces of steady seals", key=raw, digest_size=32).digest()


def _cipher(key_id: Any, key: Any) -> AESGCM:
    if not isinstance(key_id, str) or not 0 < len(key_id) <= _ID or not key_id.isprintable():
        # Not shown: id and key may have changed places.
        raise InvalidOption(f"Keyring: a key id is a text of 1 to {_ID} printable characters")
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError:
        raise InvalidOption(
            "a Keyring needs the package 'cryptography': pip install 'conveyor[crypto]'"
        ) from None
    if isinstance(key, str):
        try:
            key = base64.b64decode(key, validate=True)
        except ValueError:
            raise InvalidOption(f"key {key_id!r} is not base64") from None
    if not isinstance(key, bytes):
        raise InvalidOption(f"key {key_id!r} is {type(key).__name__}: bytes, or their base64")
    if len(key) != _KEY_BYTES:
        raise InvalidOption(f"key {key_id!r} has {len(key)} bytes: AES-256 takes {_KEY_BYTES}")
    return AESGCM(key)
