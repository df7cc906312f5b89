"""Payloads with holes: arguments of a workflow's node that are results of its parents.

A template is MessagePack like any payload, with a reference (an extension type) in place of each
value that is not known yet. Filling it copies whole results as bytes: they are never decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from conveyor.core.codec import MAX_PAYLOAD, encode, encode_other
from conveyor.core.condition import Operand, pick
from conveyor.core.errors import ConveyorError, InvalidWorkflow, PayloadTooLarge

REFERENCE = 99
"""Code of the extension type."""
ITEM = -2
"""The node number that stands for the item of a mapped child."""

_MAYBE = re.compile(rb"[\xd4-\xd8]\x63|\xc7.\x63|\xc8..\x63", re.DOTALL)
"""The header of a reference: what does not have it need not be decoded."""

Lookup = Callable[[int], bytes]
"""The encoded result of a node."""


def make(value: Any, what: str, *, limit: int = MAX_PAYLOAD) -> bytes:
    """Encode a value that may hold `Operand`s which are plain references.

    Raises `NotSerialisable`, `PayloadTooLarge` or, for a computed operand, `InvalidWorkflow`.
    """
    try:
        template = _encoder.encode(value)
    except ConveyorError:
        raise
    except (NotImplementedError, TypeError, ValueError, OverflowError, RecursionError):
        return encode(value, what=what, limit=limit)  # says which part of it cannot be stored
    if len(template) > limit:
        raise PayloadTooLarge(
            f"{what} take {len(template):,} bytes encoded and the limit is {limit:,}; "
            "store the data elsewhere and pass a reference"
        )
    return template


def decode(template: bytes) -> Any:
    """Return the value with a `msgspec.msgpack.Ext` for each reference, to be shown."""
    return msgspec.msgpack.decode(template)


def references(template: bytes) -> list[tuple[int, tuple[Any, ...]]]:
    """Return the references in a template: number of the node and path into its result."""
    if _MAYBE.search(template) is None:
        return []
    return [_target(ext.data) for ext in _extensions(decode(template))]


def fill(template: bytes, result: Lookup) -> bytes:
    """Return the payload: each reference replaced by what it points at."""

    def put(code: int, data: memoryview) -> Any:
        if code != REFERENCE:
            return msgspec.msgpack.Ext(code, bytes(data))
        node, path = _target(data)
        encoded = result(node)
        if not path:
            return msgspec.Raw(encoded)
        return pick(msgspec.msgpack.decode(encoded), path)

    return _plain.encode(msgspec.msgpack.Decoder(ext_hook=put).decode(template))


def moved(template: bytes, by: Callable[[int], int]) -> bytes:
    """Return the template with its node numbers replaced."""

    def move(code: int, data: memoryview) -> Any:
        if code != REFERENCE:
            return msgspec.msgpack.Ext(code, bytes(data))
        node, path = _target(data)
        return _reference(by(node), path)

    return _plain.encode(msgspec.msgpack.Decoder(ext_hook=move).decode(template))


def _reference(node: int, path: tuple[Any, ...]) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(REFERENCE, _plain.encode((node, *path)))


def _target(data: Any) -> tuple[int, tuple[Any, ...]]:
    node, *path = msgspec.msgpack.decode(data)
    return node, tuple(path)


def _extensions(value: Any) -> Iterator[msgspec.msgpack.Ext]:
    if isinstance(value, msgspec.msgpack.Ext) and value.code == REFERENCE:
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _extensions(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _extensions(item)


def _encode_operand(value: Any) -> Any:
    if not isinstance(value, Operand):
        return encode_other(value)
    if value.expression[0] != "result":
        raise InvalidWorkflow(
            "an argument is a node's result or a part of it, not a computed value"
        )
    return _reference(value.expression[1], tuple(value.expression[2:]))


_plain = msgspec.msgpack.Encoder()
_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_operand)

ITEM_OPERAND = Operand(("result", ITEM))
"""Stands for the item of a mapped child in its arguments."""
