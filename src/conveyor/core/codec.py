"""How values become bytes: MessagePack by msgspec, with pydantic models and dataclasses.

Payloads are `[args, kwargs]`. Decoding is typed by the annotations of the task function, so a
`datetime`, a `UUID` or a model comes back as itself; unannotated parameters get the plain
MessagePack value. No pickle: nothing here can run code that was not imported already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from conveyor.core.envelope import is_wrapped, shown
from conveyor.core.errors import InvalidOption, NotSerialisable, PayloadTooLarge

MAX_PAYLOAD = 256 * 1024
"""Bytes of encoded arguments or result a task may carry."""

T = TypeVar("T")


def encode_other(value: Any) -> Any:
    """Turn what msgspec does not know into what it does: pydantic models and their kin."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="python")
    raise NotImplementedError(type(value).__name__)  # how msgspec asks for "I do not know it"


def decode_other(kind: type, value: Any) -> Any:
    """Build types msgspec does not know from plain values: pydantic models and their kin."""
    build = getattr(kind, "from_plain", None)
    if callable(build):
        return build(kind, value)
    validate = getattr(kind, "model_validate", None)
    if callable(validate):
        return validate(value)
    raise NotImplementedError(kind)


_encoder = msgspec.msgpack.Encoder(enc_hook=encode_other)
_decoder = msgspec.msgpack.Decoder()


def encode(value: Any, *, what: str, limit: int = MAX_PAYLOAD) -> bytes:
    """Encode `value` as MessagePack.

    Raises `NotSerialisable`, saying where in `what` the culprit sits, or `PayloadTooLarge` above
    `limit` bytes.
    """
    try:
        data = _encoder.encode(value)
    except (NotImplementedError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise NotSerialisable(_explain(value, what, exc)) from exc
    if len(data) > limit:
        raise PayloadTooLarge(
            f"{what} take {len(data):,} bytes encoded and the limit is {limit:,}; "
            "store the data elsewhere and pass a reference"
        )
    return data


def decode(data: bytes) -> Any:
    """Decode MessagePack into plain values."""
    return _decoder.decode(data)


def decode_call(payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode a payload into plain arguments, to be shown; none when it holds no call (whoever
    pushed it did so without the client, and it can still be looked at)."""
    try:
        if is_wrapped(payload):
            return shown(payload)
        args, kwargs = decode(payload)
        return tuple(args), dict(kwargs)
    except (msgspec.MsgspecError, TypeError, ValueError):
        return (), {}


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """Return a function that decodes MessagePack into `kind`; it raises `msgspec.ValidationError`
    with the path of the first value that does not fit.

    Raises `InvalidOption` for a type that cannot be told apart when it comes back.
    """
    try:
        return msgspec.msgpack.Decoder(kind, dec_hook=decode_other).decode
    except TypeError as exc:
        raise InvalidOption(f"a task's annotation cannot be decoded: {exc}") from None


def _explain(value: Any, what: str, exc: BaseException) -> str:
    if isinstance(exc, RecursionError):
        return f"{what} are nested too deeply or contain themselves"
    path, culprit = _culprit(value, "", 0)
    place = f" at {path}" if path else ""
    return (
        f"{what}: {type(culprit).__module__}.{type(culprit).__qualname__}{place} cannot be stored "
        f"({exc}); pass plain data, a dataclass, a msgspec Struct or a pydantic model"
    )


def _culprit(value: Any, path: str, depth: int) -> tuple[str, Any]:
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f"{path}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        children = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    for where, item in children:
        try:
            _encoder.encode(item)
        except (NotImplementedError, TypeError, ValueError, OverflowError, RecursionError):
            return _culprit(item, where, depth + 1) if depth < 20 else (where, item)
    return path, value
