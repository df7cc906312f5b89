"""Conditions as SQL, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from operator import ge, gt, le, lt
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, true

from conveyor_console.kit.filters import Condition

_GLOB, _LIKE = re.compile(r"[*?\[]"), re.compile(r"[\\%_]")
_COMPARE: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    ">": gt,
    ">=": ge,
    "<": lt,
    "<=": le,
}
Columns = Callable[[str], ColumnElement[Any]]
"""The column, or expression, of an attribute."""


class Selecting:
    """Writes clauses for one kind of database over the given columns."""

    def __init__(self, columns: Columns, *, is_sqlite: bool) -> None:
        self._columns = columns
        self._is_sqlite = is_sqlite

    def clause(self, wanted: Iterable[Condition]) -> ColumnElement[bool]:
        """Return the conditions, all of which must hold, as one clause."""
        return and_(true(), *map(self._one, wanted))

    def _one(self, condition: Condition) -> ColumnElement[bool]:
        found = self._positive(condition, self._columns(condition.attribute))
        # A NULL fits nothing, so what is negated fits it.
        return not_(func.coalesce(found, false())) if condition.negated else found

    def _positive(self, condition: Condition, column: ColumnElement[Any]) -> ColumnElement[bool]:
        if condition.op == "is":
            exact = column.in_(condition.values)
            return or_(exact, *(self._fits(column, p.split("*")) for p in condition.patterns))
        if condition.op == "has":
            texts = [[text] for text in condition.values]
            texts += [pattern.split("*") for pattern in condition.patterns]
            return or_(false(), *(self._has(column, parts) for parts in texts))
        if condition.op == "fact":
            lines = [["", f"\n{fact}\n", ""] for fact in condition.values]
            return or_(
                false(),
                *(self._fits(column, parts) for parts in lines),
                *(self._has_line(column, pattern) for pattern in condition.patterns),
            )
        return _COMPARE[condition.op](column, condition.values[0])

    def _has(self, column: ColumnElement[Any], parts: Sequence[str]) -> ColumnElement[bool]:
        found = self._fits(func.lower(column), ["", *map(str.lower, parts), ""])
        # SQLite lowers A to Z only.
        return or_(found, self._fits(column, ["", *parts, ""])) if self._is_sqlite else found

    def _has_line(self, column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        """Whether a line fits. The text as a whole is looked at first, which is quick; but there
        `*` stands for line feeds too, and what one argument began another would end."""
        parts = pattern.split("*")
        likely = self._fits(column, ["", *f"\n{pattern}\n".split("*"), ""])
        if self._is_sqlite:
            return and_(likely, func.has_line(column, pattern))
        line = "[^\n]*".join(map(re.escape, parts))
        return and_(likely, column.op("~", is_comparison=True)(f"\n{line}\n"))

    def _fits(self, column: ColumnElement[Any], parts: Sequence[str]) -> ColumnElement[bool]:
        """Whether a text is these parts with any text between them. SQLite's LIKE ignores case."""
        if self._is_sqlite:
            pattern = "*".join(_GLOB.sub(r"[\g<0>]", part) for part in parts)
            return column.op("GLOB", is_comparison=True)(pattern)
        pattern = "%".join(_LIKE.sub(r"\\\g<0>", part) for part in parts)
        return column.like(pattern, escape="\\")
