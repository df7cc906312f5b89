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

_CATCH_ALL = {"*", "**"}
_BY_POSITION = {"positional", "any"}
_BY_NAME = {"keyword", "any"}
_CATCHERS = {"positional": {"*"}, "keyword": {"**"}, "any": {"*", "**"}}
"""What takes the arguments of a parameter that is gone, however they were passed."""


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
    before = {parameter.name for parameter in old}
    both = [(was, known[was.name]) for was in old if was.name in known]
    changes = [
        f"parameter {parameter.name!r} is new and has no default"
        for parameter in new
        if parameter.required and parameter.name not in before
    ]
    changes += [
        f"parameter {now.name!r} was {was.type or 'untyped'} and is {now.type or 'untyped'}"
        for was, now in both
        if now.type not in {was.type, ""}
    ]
    changes += [
        f"parameter {now.name!r} has no default any more"
        for was, now in both
        if now.required and not was.required
    ]
    return _lost(old, new, known) + changes + _passed(both) + _moved(old, new, known)


def _lost(
    old: tuple[Parameter, ...], new: tuple[Parameter, ...], known: Mapping[str, Parameter]
) -> list[str]:
    """Say which arguments have no place to go: each kind of call needs its own catch-all."""
    caught = {parameter.kind for parameter in new} & _CATCH_ALL
    changes = []
    for parameter in old:
        if parameter.kind in _CATCH_ALL:
            if parameter.kind not in caught:
                changes.append(f"parameter {parameter.kind + parameter.name!r} is gone")
        elif parameter.name not in known and not _CATCHERS[parameter.kind] <= caught:
            changes.append(f"parameter {parameter.name!r} is gone")
    return changes


def _passed(both: list[tuple[Parameter, Parameter]]) -> list[str]:
    """Say which parameters cannot be passed any more in a way that they could be."""
    changes = []
    for was, now in both:
        if now.kind == "keyword" and was.kind in _BY_POSITION:
            changes.append(f"parameter {now.name!r} cannot be passed by position any more")
        if now.kind == "positional" and was.kind in _BY_NAME:
            changes.append(f"parameter {now.name!r} cannot be passed by name any more")
    return changes


def _moved(
    old: tuple[Parameter, ...], new: tuple[Parameter, ...], known: Mapping[str, Parameter]
) -> list[str]:
    """Say when an argument by position would become another parameter's."""
    caught = {parameter.kind for parameter in new} & _CATCH_ALL
    before = [
        p.name
        for p in old
        if p.kind in _BY_POSITION
        and (
            known[p.name].kind in _BY_POSITION
            if p.name in known
            else _CATCHERS[p.kind] <= caught  # else it was said to be gone
        )
    ]
    now = [p.name for p in new if p.kind in _BY_POSITION]
    shifts = any(p.kind == "*" for p in old) and len(now) > len(before)
    if shifts or any(was != name for was, name in zip(before, now, strict=False)):
        return [f"positional parameters were {before} and are {now}"]
    return []
