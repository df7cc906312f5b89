"""Orders that a list can be asked for: `sort=name`, `sort=-name` for descending. A cursor belongs
to the order that it was made in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Select, and_, or_

from conveyor_console.kit.pages import bad_cursor, cursor_at, place_of

T = TypeVar("T")


class Order(NamedTuple):
    """An order of a list."""

    key: str
    descending: bool

    @property
    def text(self) -> str:
        """As it is written in `sort`."""
        return f"-{self.key}" if self.descending else self.key


class Place(NamedTuple):
    """Where a page ended: the value that the list is ordered by, as text, and the row's id."""

    value: str
    id: str


def order_of(sort: str) -> Order:
    """Read `sort`."""
    return Order(sort.removeprefix("-"), sort.startswith("-"))


def cursor_in(order: Order, place: Place) -> str:
    """Write down a place in an order."""
    return cursor_at([order.text, *place])


def place_in(order: Order, cursor: str | None) -> Place | None:
    """Read a cursor back. Raises `Problem` 422 for one of another order."""
    found = place_of(cursor, 3)
    if found is None:
        return None
    if found[0] != order.text:
        raise bad_cursor()
    return Place(found[1], found[2])


def cut(
    rows: Sequence[T], limit: int, order: Order, place: Callable[[T], tuple[str, str]]
) -> tuple[list[T], str | None]:
    """Cut `limit + 1` rows to a page and the cursor of the next; `place` says where a row is."""
    if len(rows) <= limit:
        return list(rows), None
    return list(rows[:limit]), cursor_in(order, Place(*place(rows[limit - 1])))


def number_at(place: Place) -> float:
    """Return the value of a place that is a number. Raises `Problem` 422."""
    try:
        return float(place.value)
    except ValueError:
        raise bad_cursor() from None


def behind(
    statement: Select[Any],
    order: Order,
    columns: tuple[Any, Any],
    place: tuple[Any, str] | None,
) -> Select[Any]:
    """Put rows in order, by a column and then by id, and leave out those up to a place. `columns`
    may be the id twice."""
    at, row_id = columns
    down = order.descending
    if place is not None:
        value, last = place
        further = at < value if down else at > value
        # The first half alone lets an index begin at the right place.
        level = at <= value if down else at >= value
        same = and_(at == value, row_id < last if down else row_id > last)
        statement = statement.where(level, or_(further, same))
    keys = (at,) if at is row_id else (at, row_id)
    return statement.order_by(*(key.desc() if down else key.asc() for key in keys))
