"""From terms to conditions on known fields, and from these to a predicate. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from conveyor_console.kit.grammar import FREE, BadQuery, Term, Value, parse

ANY = object()
"""A value that every term fits: of what takes everything."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d|w)?")
_FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


class Kind(StrEnum):
    """How the values of a field are read and compared."""

    TEXT = "text"
    """The same text, or one that fits a pattern."""
    WORDS = "words"
    """A text that contains it, in any case."""
    CHOICE = "choice"
    FACT = "fact"
    """`field.path:value`: a value inside."""
    NUMBER = "number"
    SECONDS = "duration"
    MOMENT = "time"
    AGE = "age"
    """A duration that says how long ago a moment was."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a list can be filtered by; `attribute` is what holds it."""

    kind: Kind
    attribute: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One term that can be checked. `op` is `is`, `like`, `has`, `fact` or a comparison."""

    attribute: str
    op: str
    values: tuple[Any, ...]
    negated: bool = False
    patterns: tuple[str, ...] = ()
    """Beside the values, with `*` for any text."""


def conditions(text: str, fields: Mapping[str, Field], now: float) -> tuple[Condition, ...]:
    """Read a filter; `now` is epoch seconds, for ages. Raises `BadQuery`."""
    return tuple(_condition(term, fields, now) for term in parse(text))


def _condition(term: Term, fields: Mapping[str, Field], now: float) -> Condition:
    field = fields.get(term.field)
    if field is None:
        raise BadQuery(_unknown(term, fields), term.column)
    if term.path and field.kind is not Kind.FACT:
        raise BadQuery(f"{term.field} has nothing inside: write {term.field}:…", term.column)
    if field.kind in {Kind.NUMBER, Kind.SECONDS, Kind.MOMENT, Kind.AGE}:
        return _comparison(term, field, now)
    if term.op != ":":
        raise BadQuery(f"{term.field} is a text and has no {term.op}", term.column)
    if field.kind is Kind.CHOICE:
        return _choice(term, field)
    if field.kind is Kind.FACT:
        return _fact(term, field)
    op = "has" if field.kind is Kind.WORDS else "is"
    exact = tuple(value.text for value in term.values if not value.is_pattern)
    patterns = tuple(value.text for value in term.values if value.is_pattern)
    return Condition(field.attribute, op, exact, term.negated, patterns)


def _unknown(term: Term, fields: Mapping[str, Field]) -> str:
    if term.field == FREE:
        return "a word alone says nothing here: write field:value"
    names = sorted(name for name in fields if name)
    near = get_close_matches(term.field, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    return f"there is no field {term.field!r}: {hint}"


def _choice(term: Term, field: Field) -> Condition:
    for value in term.values:
        if value.text not in field.choices:
            known = ", ".join(field.choices)
            raise BadQuery(f"{term.field} is one of {known}, not {value.text!r}", value.column)
    chosen = tuple(value.text for value in term.values)
    if term.negated:  # so that an index can be used
        chosen = tuple(choice for choice in field.choices if choice not in chosen)
    return Condition(field.attribute, "is", chosen)


def _fact(term: Term, field: Field) -> Condition:
    if not term.path:
        raise BadQuery(f"{term.field} needs a name: {term.field}.name:value", term.column)
    path = ".".join(term.path)
    exact = tuple(f"{path}={v.text}" for v in term.values if not v.is_pattern)
    patterns = tuple(f"{path.replace('*', '')}={v.text}" for v in term.values if v.is_pattern)
    return Condition(field.attribute, "fact", exact, term.negated, patterns)


def _comparison(term: Term, field: Field, now: float) -> Condition:
    if field.kind in {Kind.SECONDS, Kind.MOMENT, Kind.AGE} and term.op == ":":
        raise BadQuery(
            f"{term.field} is compared: write {term.field}>… or {term.field}<…", term.column
        )
    read = {
        Kind.NUMBER: _number,
        Kind.SECONDS: _seconds,
        Kind.MOMENT: _moment,
        Kind.AGE: _seconds,
    }[field.kind]
    values = tuple(read(value) for value in term.values)
    if field.kind is Kind.AGE:
        return Condition(field.attribute, _FLIPPED[term.op], (now - values[0],), term.negated)
    return Condition(field.attribute, "is" if term.op == ":" else term.op, values, term.negated)


def _number(value: Value) -> float:
    try:
        number = float(value.text)
    except ValueError:
        number = float("nan")
    if not -1e15 < number < 1e15:
        raise BadQuery(f"{value.text!r} is no number", value.column)
    return number


def _seconds(value: Value) -> float:
    found = _DURATION.fullmatch(value.text)
    if found is None:
        raise BadQuery(f"{value.text!r} is no duration: write 90s, 15m, 1h, 7d", value.column)
    return float(found[1]) * _UNITS[found[2] or "s"]


def _moment(value: Value) -> float:
    try:
        moment = datetime.fromisoformat(value.text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise BadQuery(
            f"{value.text!r} is no time: write 2026-11-27 or 2026-11-27T12:30Z", value.column
        ) from None


# -- predicates

Get = Callable[[Any, str], Any]
"""The value of an attribute of a row; of facts, its lines between line feeds."""


def matches(row: Any, wanted: Iterable[Condition], get: Get) -> bool:
    """Whether a row fits every condition."""
    return all(_holds(one, get(row, one.attribute)) is not one.negated for one in wanted)


def _holds(one: Condition, value: Any) -> bool:
    if value is ANY:
        return True
    if one.op == "fact":
        text = value or ""
        return any(f"\n{fact}\n" in text for fact in one.values) or any(
            has_line(text, pattern) for pattern in one.patterns
        )
    if value is None:
        return False
    if one.op == "is":
        return value in one.values or any(fits(value, pattern) for pattern in one.patterns)
    if one.op == "has":
        text = value.lower()
        return any(part.lower() in text for part in one.values) or any(
            fits(text, f"*{pattern.lower()}*") for pattern in one.patterns
        )
    return _compare(value, one.op, one.values[0])


def _compare(value: float, op: str, other: float) -> bool:
    if op in {">", ">="}:
        return value > other or (op == ">=" and value == other)
    return value < other or (op == "<=" and value == other)


def fits(text: str, pattern: str) -> bool:
    """Whether a text fits a pattern with `*`. Each part is looked for behind the one before and
    never anew: somebody's pattern costs no more than the text is long."""
    first, *middle = pattern.split("*")
    if not middle:
        return text == pattern
    last = middle.pop()
    place, end = len(first), len(text) - len(last)
    if place > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for part in middle:
        place = text.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True


def has_line(text: str, pattern: str) -> bool:
    """Whether a line of a text fits a pattern with `*`."""
    return any(fits(line, pattern) for line in text.split("\n"))


def expanded(one: Condition, known: Sequence[str]) -> Condition:
    """Return a condition whose patterns are those of the known texts that fit them."""
    found = [text for text in known if any(fits(text, pattern) for pattern in one.patterns)]
    return replace(one, values=(*one.values, *found), patterns=())
