"""The one filter grammar of all lists: text in, a small tree out. Pure.

    state:failed task:send_* queue:mail,sms age>1h error:"timed out" args.user_id:42 -key:x word

Terms are joined by AND, the values of one term, separated by commas, by OR; `-` negates a term. A
value in quotes is taken as it is; in others `*` stands for any text. `>`, `>=`, `<`, `<=` compare
numbers, durations (`90s`, `15m`, `1h`, `7d`) and times (`2026-11-27`, `2026-11-27T12:30Z`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 1_000
MOST_TERMS, MOST_VALUES = 20, 50
FREE = ""
"""The field of a word without one."""
_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)((?:\.[^\s.:<>,\"=]+)*)(:|>=|<=|>|<)")
_BARE = re.compile(r"[^\s,\"]+")
_SPACE = re.compile(r"\s*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class BadQuery(ValueError):
    """A filter that cannot be read; `column` (from 1) is where."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"column {column}: {message}")
        self.message = message
        self.column = column


@dataclass(frozen=True, slots=True)
class Value:
    """One value as it was written. `is_pattern`: its `*` stand for any text."""

    text: str
    column: int
    is_pattern: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """`field.path op values`; any of the values will do."""

    field: str
    path: tuple[str, ...]
    op: str
    """`:`, `>`, `>=`, `<` or `<=`."""
    values: tuple[Value, ...]
    negated: bool
    column: int


def parse(text: str) -> tuple[Term, ...]:
    """Return the terms of a filter, all of which must hold. Raises `BadQuery`."""
    if len(text) > LONGEST:
        raise BadQuery(f"the filter is longer than {LONGEST:,} characters", LONGEST + 1)
    # As it is stored and shown: PostgreSQL's texts have no NUL.
    terms = tuple(_terms(text.replace("\x00", "␀")))
    if len(terms) > MOST_TERMS:
        raise BadQuery(f"more than {MOST_TERMS} terms", terms[MOST_TERMS].column)
    if sum(len(term.values) for term in terms) > MOST_VALUES:
        raise BadQuery(f"more than {MOST_VALUES} values", terms[-1].column)
    return terms


def _terms(text: str) -> Iterator[Term]:
    place = _skip(text, 0)
    while place < len(text):
        term, place = _term(text, place)
        yield term
        if place < len(text) and not text[place].isspace():
            raise BadQuery(f"a space is missing before {text[place]!r}", place + 1)
        place = _skip(text, place)


def _term(text: str, start: int) -> tuple[Term, int]:
    negated = text[start] == "-"
    place = start + negated
    found = _FIELD.match(text, place)
    if found is None:
        value, end = _value(text, place)
        return Term(FREE, (), ":", (value,), negated, start + 1), end
    field, path, op = found.groups()
    values, end = _values(text, found.end())
    if op != ":" and len(values) > 1:
        raise BadQuery(f"{op} compares with one value", values[1].column)
    steps = tuple(path.split(".")[1:])
    return Term(field.lower(), steps, op, tuple(values), negated, start + 1), end


def _values(text: str, place: int) -> tuple[list[Value], int]:
    values = []
    while True:
        value, place = _value(text, place)
        values.append(value)
        if place >= len(text) or text[place] != ",":
            return values, place
        place += 1


def _value(text: str, place: int) -> tuple[Value, int]:
    if place < len(text) and text[place] == '"':
        return _quoted(text, place)
    found = _BARE.match(text, place)
    if found is None:
        raise BadQuery("a value is missing", place + 1)
    return Value(found[0], place + 1, "*" in found[0]), found.end()


def _quoted(text: str, start: int) -> tuple[Value, int]:
    place = start + 1
    while place < len(text):
        if text[place] == "\\":
            place += 2
        elif text[place] == '"':
            inside = _ESCAPED.sub(r"\1", text[start + 1 : place])
            return Value(inside, start + 1), place + 1
        else:
            place += 1
    raise BadQuery("the quote is never closed", start + 1)


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()
