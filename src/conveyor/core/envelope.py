"""Payloads with something around the call: a version, sealed fields, a reference to a blob.

A plain payload is `[args, kwargs]`; a wrapped one is `[args, kwargs, Wrapping]`, told apart by its
first byte. Tasks that need none of this carry none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

_WRAPPED = b"\x93"
"""The header of a MessagePack array of three."""
_ELSEWHERE = " bytes in the blob store>"


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """An encrypted argument; in the call itself stands nil. Beside a blob it has no data: it says
    which key the blob needs."""

    where: int | str
    """Its position, or its keyword."""
    key_id: str
    nonce: bytes
    data: bytes


class Blob(msgspec.Struct, frozen=True, array_like=True):
    """A payload that lies elsewhere; the call itself is empty."""

    ref: str
    size: int
    """Bytes."""
    sha256: str


class Wrapping(msgspec.Struct, frozen=True, array_like=True):
    """What is around a call."""

    version: int = 1
    """Of the task definition that enqueued it."""
    sealed: tuple[Sealed, ...] = ()
    blob: Blob | None = None


class Call(msgspec.Struct, array_like=True):
    """The arguments of a call, each still encoded."""

    args: list[msgspec.Raw]
    kwargs: dict[str, msgspec.Raw]


class Wrapped(msgspec.Struct, array_like=True):
    """A wrapped call."""

    args: list[msgspec.Raw]
    kwargs: dict[str, msgspec.Raw]
    wrapping: Wrapping


_encode = msgspec.msgpack.Encoder().encode
_decode_call = msgspec.msgpack.Decoder(Call).decode
_decode_wrapped = msgspec.msgpack.Decoder(Wrapped).decode
_decode = msgspec.msgpack.Decoder().decode


def is_wrapped(payload: bytes) -> bool:
    """Whether there is anything around the call."""
    return payload.startswith(_WRAPPED)


def split(payload: bytes) -> Call:
    """Take a plain payload apart."""
    return _decode_call(payload)


def join(call: Call) -> bytes:
    """Make a plain payload."""
    return _encode((call.args, call.kwargs))


def wrap(call: Call, wrapping: Wrapping) -> bytes:
    """Make a wrapped payload."""
    return _encode((call.args, call.kwargs, wrapping))


def stamped(payload: bytes, version: int) -> bytes:
    """Return a plain payload with the version of the definition that it is for; a wrapped one has
    it already."""
    if version == 1 or is_wrapped(payload):
        return payload
    return wrap(split(payload), Wrapping(version))


def unwrap(payload: bytes) -> tuple[Call, Wrapping]:
    """Take a wrapped payload apart. Raises `msgspec.DecodeError`."""
    found = _decode_wrapped(payload)
    return Call(found.args, found.kwargs), found.wrapping


def shown(payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a wrapped call to be looked at: what is sealed or elsewhere is named, not read."""
    call, wrapping = unwrap(payload)
    if wrapping.blob is not None:
        return (f"<{wrapping.blob.size:,}{_ELSEWHERE}",), {}
    args: list[Any] = [_decode(raw) for raw in call.args]
    kwargs: dict[str, Any] = {name: _decode(raw) for name, raw in call.kwargs.items()}
    for field in wrapping.sealed:
        note = f"<sealed with key {field.key_id}>"
        if isinstance(field.where, str):
            kwargs[field.where] = note
        elif 0 <= field.where < len(args):
            args[field.where] = note
    return tuple(args), kwargs


def is_elsewhere(args: Sequence[Any]) -> bool:
    """Whether these arguments, as `shown`, stand for a call that lies in a blob store."""
    return len(args) == 1 and isinstance(args[0], str) and args[0].endswith(_ELSEWHERE)
