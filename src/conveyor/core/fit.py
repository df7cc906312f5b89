"""Whether a result can be an argument, as far as two annotations tell. Pure, and never too strict.

Values travel as MessagePack, so what counts is the form they take there: a dataclass fits a model,
an int fits a float. Only two annotations that cannot meet in any form are a mismatch.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec

_ANYTHING = frozenset({"any"})
_FORMS: dict[Any, frozenset[str]] = {
    bool: frozenset({"bool"}),
    int: frozenset({"number"}),
    float: frozenset({"number"}),
    str: frozenset({"text"}),
    bytes: frozenset({"bytes", "text"}),
    type(None): frozenset({"nothing"}),
    None: frozenset({"nothing"}),
}
_ARRAYS = {Sequence, Iterable, Set, frozenset}
_TEXTS = (datetime, date, time, UUID, Decimal)


def mismatch(given: Any, wanted: Any) -> bool:
    """Say whether a value of the annotation `given` can never be one of `wanted`."""
    forms, accepted = _forms(given), _forms(wanted)
    if "any" in forms or "any" in accepted:
        return False
    if not forms & accepted:
        return True
    if forms == accepted == {"array"}:
        item, wanted_item = _item(given), _item(wanted)
        return item is not None and wanted_item is not None and mismatch(item, wanted_item)
    return False


def name(annotation: Any) -> str:
    """Return an annotation as it is written."""
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def item_of(annotation: Any) -> Any:
    """Return the annotation of a list's items, Any when it is not known."""
    item = _item(annotation)
    return Any if item is None else item


def is_list(annotation: Any) -> bool:
    """Say whether an annotation may be a list (or a number, which counts as that many)."""
    return bool(_forms(annotation) & {"any", "array", "number"})


def _item(annotation: Any) -> Any:
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is tuple:
        return arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
    return arguments[0] if len(arguments) == 1 and isinstance(origin, type) else None


def _forms(annotation: Any) -> frozenset[str]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _forms(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return frozenset().union(*map(_forms, get_args(annotation)))
    if origin is Literal:
        return frozenset().union(*(_forms(type(value)) for value in get_args(annotation)))
    if annotation is Any or isinstance(annotation, (TypeVar, str)):
        return _ANYTHING
    kind = origin or annotation
    if kind in _FORMS:
        return _FORMS[kind]
    return _form_of_class(kind) if isinstance(kind, type) else _ANYTHING


def _form_of_class(kind: type) -> frozenset[str]:
    if issubclass(kind, _TEXTS):
        return frozenset({"text", "number", "time"})
    is_named_tuple = hasattr(kind, "_fields")
    if kind in _ARRAYS or (issubclass(kind, (list, tuple, set)) and not is_named_tuple):
        return frozenset({"array"})
    if issubclass(kind, msgspec.Struct):
        return frozenset({"array" if kind.__struct_config__.array_like else "map"})
    is_model = hasattr(kind, "__dataclass_fields__") or hasattr(kind, "model_fields")
    return frozenset({"map"}) if is_model or issubclass(kind, (dict, Mapping)) else _ANYTHING
