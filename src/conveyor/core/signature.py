"""From a Python signature to checks and typed decoding of a task's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Never, NoReturn, get_type_hints

import msgspec

from conveyor.core.codec import decode, decode_other, decoder
from conveyor.core.errors import InvalidArguments

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_EMPTY_PAYLOAD = b"\x92\x90\x80"


class Signature:
    """The parameters of a task function: what an enqueue may pass, and how to decode it again."""

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        self.name = name
        self.text = inspect.signature(fn)
        parameters = list(self.text.parameters.values())
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._varargs = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._varkw = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._positional = [p.name for p in positional]
        self._most = len(positional)
        self._least = sum(p.default is p.empty for p in positional)
        keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self._plain = not any(p.default is p.empty for p in keyword)
        hints = self.hints = _hints(fn)
        self._kinds = {
            p.name: hints.get(p.name, Any)
            for p in (*positional, *keyword)
            if p.kind is not p.POSITIONAL_ONLY
        }
        returns = hints.get("return", Any)
        # "Never returns" says nothing about a value, and there is none to decode.
        self.returns: Any = Any if returns in (NoReturn, Never) else returns
        order = [(f"p{i}", hints.get(p.name, Any)) for i, p in enumerate(positional)]
        typed = any(kind is not Any for _, kind in order) or any(
            kind is not Any for kind in self._kinds.values()
        )
        self._decode = self._decoder([kind for _, kind in order]) if typed else None

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise `InvalidArguments` when the call does not fit the signature."""
        if not kwargs and self._plain and self._least <= len(args) <= self._most:
            return
        try:
            self.text.bind(*args, **kwargs)
        except TypeError as exc:
            raise InvalidArguments(f"{self.name}{self.text}: {exc}; nothing was enqueued") from None

    @property
    def names(self) -> list[str]:
        """Names of the parameters, without `*args` and `**kwargs`."""
        parameters = self.text.parameters.values()
        return [p.name for p in parameters if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]

    def place(self, name: str, count: int, kwargs: Mapping[str, Any]) -> int | str | None:
        """Return where a call with `count` positional arguments has the parameter `name`: its
        position, its keyword, or None when it is left to its default."""
        # By position first: beside a positional-only parameter, a `**kwargs` may have its name.
        if name in self._positional[:count]:
            return self._positional.index(name)
        return name if name in kwargs else None

    def decode(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode a payload into typed arguments. Raises `msgspec.ValidationError` (with the path)
        or `InvalidArguments` when they do not fit the function as it is now."""
        if payload == _EMPTY_PAYLOAD and self._least == 0 and self._plain:
            return (), {}
        if self._decode is None:
            args, kwargs = decode(payload)
            self.check(tuple(args), kwargs)
            return tuple(args), kwargs
        args, kwargs = self._decode(payload)
        self.check(args, kwargs)
        return args, kwargs

    def _decoder(
        self, kinds: list[Any]
    ) -> Callable[[bytes], tuple[tuple[Any, ...], dict[str, Any]]]:
        split = decoder(tuple[msgspec.Raw, dict[str, msgspec.Raw]])
        by_count = {n: decoder(_tuple_of(kinds[:n])) for n in range(1, len(kinds) + 1)}
        by_name = {name: decoder(kind) for name, kind in self._kinds.items()}
        plain = len(kinds)

        def decode_typed(payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
            raw_args, raw_kwargs = split(payload)
            kwargs = {}
            for name, raw in raw_kwargs.items():
                kwargs[name] = by_name.get(name, decode)(raw)
            count = _length(raw_args)
            if count == 0:
                return (), kwargs
            if count <= plain:
                return by_count[count](raw_args), kwargs
            every: list[Any] = decode(raw_args)
            head = (
                msgspec.convert(every[:plain], _tuple_of(kinds), dec_hook=decode_other)
                if plain
                else ()
            )
            return (*head, *every[plain:]), kwargs

        return decode_typed


def _tuple_of(kinds: list[Any]) -> Any:
    return tuple.__class_getitem__(tuple(kinds))


def _length(raw: msgspec.Raw) -> int:
    """Length of an encoded MessagePack array, from its header."""
    head = memoryview(raw)
    first = head[0]
    if first & 0xF0 == 0x90:
        return first & 0x0F
    return int.from_bytes(head[1:3] if first == 0xDC else head[1:5], "big")


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(fn)
    except (NameError, TypeError):
        # Annotations that cannot be resolved at run time (names under TYPE_CHECKING) mean
        # untyped decoding, not a broken task.
        return {}
