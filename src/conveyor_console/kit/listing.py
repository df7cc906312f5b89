"""Lists that are short enough to be filtered and put in order here. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from conveyor_console.kit.filters import Field, conditions, matches
from conveyor_console.kit.grammar import BadQuery
from conveyor_console.kit.pages import bad_cursor, bad_query
from conveyor_console.kit.sorting import Order, Place, cursor_in, order_of, place_in

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants of a list."""

    q: str
    sort: str
    cursor: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """How a kind of row is filtered, ordered and told apart: `get` reads attributes of a row, of
    which `keys` says one for each order."""

    fields: Mapping[str, Field]
    keys: Mapping[str, str]
    id: str
    get: Callable[[T, str], Any]

    def page(self, rows: Sequence[T], asked: Asked, now: float) -> tuple[list[T], str | None]:
        """Return a page, and the cursor of the next. `now` is epoch seconds. Raises `Problem`
        422."""
        order = order_of(asked.sort)
        place = place_in(order, asked.cursor)
        try:
            wanted = conditions(asked.q, self.fields, now)
        except BadQuery as exc:
            raise bad_query(exc) from None
        found = [row for row in rows if matches(row, wanted, self.get)]
        found.sort(key=lambda row: self._rank(row, order), reverse=order.descending)
        if place is not None:
            found = self._behind(found, order, place)
        if len(found) <= asked.limit:
            return found, None
        shown = found[: asked.limit]
        return shown, self._cursor(shown[-1], order)

    def _rank(self, row: T, order: Order) -> tuple[bool, Any, str]:
        """What a row is ordered by: nothing comes before everything."""
        value = self.get(row, self.keys[order.key])
        return value is not None, 0 if value is None else value, str(self.get(row, self.id))

    def _behind(self, rows: list[T], order: Order, place: Place) -> list[T]:
        try:
            value = orjson.loads(place.value)
            last = (value is not None, 0 if value is None else value, place.id)
            if order.descending:
                return [row for row in rows if self._rank(row, order) < last]
            return [row for row in rows if self._rank(row, order) > last]
        except (orjson.JSONDecodeError, TypeError):
            raise bad_cursor() from None

    def _cursor(self, row: T, order: Order) -> str:
        value = orjson.dumps(self.get(row, self.keys[order.key])).decode()
        return cursor_in(order, Place(value, str(self.get(row, self.id))))
