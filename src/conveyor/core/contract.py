"""What task definitions promise to tasks that are queued already, and what breaks it. Pure.

A lock file holds every definition's parameters as they were when it was written. Comparing code
with it tells, before a deploy, which calls that older code has enqueued the new code cannot take.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import msgspec

from conveyor.core.signature import Signature

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "any",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a task function."""

    name: str
    kind: str
    """positional, any, keyword, * or **."""
    type: str
    required: bool


class Promise(msgspec.Struct, frozen=True):
    """What one definition takes."""

    version: int
    parameters: tuple[Parameter, ...]
    aliases: tuple[str, ...] = ()


Promises = Mapping[str, Promise]


def promise(signature: Signature, version: int, aliases: tuple[str, ...]) -> Promise:
    """Describe a definition."""
    parameters = tuple(
        Parameter(
            p.name,
            _KINDS[p.kind],
            _type(p),
            p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD},
        )
        for p in signature.text.parameters.values()
    )
    return Promise(version, parameters, aliases)


def _type(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def broken(locked: Promises, current: Promises) -> list[str]:
    """Say, a sentence each, which calls that the locked code enqueued the current code breaks."""
    by_name = dict(current)
    for found in current.values():
        by_name |= {alias: found for alias in found.aliases if alias not in by_name}
    sentences: list[str] = []
    for name, old in sorted(locked.items()):
        new = by_name.get(name)
        if new is None:
            sentences.append(f"{name}: is gone; keep it, or name it in aliases= of its successor")
        elif new.version < old.version:
            sentences.append(f"{name}: version {new.version} is below the locked {old.version}")
        elif new.version == old.version:
            changes = _changes(old.parameters, new.parameters)
            hint = f"count version up to {old.version + 1} and give migrate= a function"
            sentences += [f"{name}: {change}; {hint}" for change in changes]
    return sentences


def _changes(old: tuple[Parameter, ...], new: tuple[Parameter, ...]) -> list[str]:
    known = {parameter.name: parameter for parameter in new}
    takes_any = any(parameter.kind == "**" for parameter in new)
    before = {parameter.name for parameter in old}
    changes = [
        f"parameter {parameter.name!r} is gone"
        for parameter in old
        if parameter.name not in known and not takes_any
    ]
    changes += [
        f"parameter {parameter.name!r} is new and has no default"
        for parameter in new
        if parameter.required and parameter.name not in before
    ]
    changes += [
        f"parameter {now.name!r} was {was.type or 'untyped'} and is {now.type or 'untyped'}"
        for was in old
        if (now := known.get(was.name)) is not None and now.type not in {was.type, ""}
    ]
    changes += [
        f"parameter {now.name!r} has no default any more"
        for was in old
        if (now := known.get(was.name)) is not None and now.required and not was.required
    ]
    order_before = [p.name for p in old if p.kind in {"positional", "any"} and p.name in known]
    order_now = [p.name for p in new if p.kind in {"positional", "any"}]
    if order_now[: len(order_before)] != order_before:
        changes.append(f"positional parameters were {order_before} and are {order_now}")
    return changes
