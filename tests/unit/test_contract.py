"""Which changes of a signature break calls that are queued already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conveyor.core.contract import Promise, broken, promise
from conveyor.core.signature import Signature


def of(fn: Callable[..., Any], version: int = 1, *aliases: str) -> Promise:
    return promise(Signature(fn, "work"), version, aliases)


def before(a: int, b: str = "") -> None: ...


def same(a: int, b: str = "") -> None: ...
def more(a: int, b: str = "", c: bool = False, *, d: int = 0) -> None: ...
def gone(a: int) -> None: ...
def anything(a: int, *more: Any, **rest: Any) -> None: ...
def by_name_only(a: int, *, b: str = "") -> None: ...
def by_position_only(a: int, b: str = "", /) -> None: ...
def names_caught(a: int, **rest: Any) -> None: ...
def places_caught(a: int, *more: Any) -> None: ...
def needed(a: int, b: str = "", *, c: int) -> None: ...
def retyped(a: str, b: str = "") -> None: ...
def untyped(a, b="") -> None: ...  # type: ignore[no-untyped-def]
def turned(b: str = "", a: int = 0) -> None: ...
def stricter(a: int, b: str) -> None: ...


@pytest.mark.parametrize("now", [same, more, anything, untyped])
def test_changes_that_break_nothing(now: Callable[..., Any]) -> None:
    assert broken({"work": of(before)}, {"work": of(now)}) == []


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (gone, "parameter 'b' is gone"),
        (needed, "'c' is new and has no default"),
        (retyped, "was int and is str"),
        (turned, "positional parameters were"),
        (stricter, "has no default any more"),
        (by_name_only, "'b' cannot be passed by position any more"),
        (names_caught, "parameter 'b' is gone"),
        (places_caught, "parameter 'b' is gone"),
    ],
)
def test_changes_that_break(now: Callable[..., Any], says: str) -> None:
    (sentence,) = broken({"work": of(before)}, {"work": of(now)})
    assert says in sentence
    assert "version up to 2" in sentence
    assert broken({"work": of(before)}, {"work": of(now, 2)}) == []


def keyword(a: int, *, b: str = "") -> None: ...
def either(a: int, b: str = "") -> None: ...
def named(a: int, **rest: Any) -> None: ...
def placed(a: int, *rest: Any) -> None: ...
def placed_otherwise(a: int, *others: Any) -> None: ...
def squeezed(a: int, b: str = "", *rest: Any) -> None: ...
def shifted(b: str = "", *rest: Any, **more: Any) -> None: ...


NEITHER_BY_NAME = [f"'{name}' cannot be passed by name any more" for name in "ab"]


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        (keyword, either, []),
        (keyword, named, []),
        (keyword, by_position_only, NEITHER_BY_NAME),
        (by_position_only, either, []),
        (by_position_only, placed, []),
        (by_position_only, keyword, ["'b' cannot be passed by position any more"]),
        (either, by_position_only, NEITHER_BY_NAME),
        (either, shifted, ["positional parameters were ['a', 'b'] and are ['b']"]),
        (placed, placed_otherwise, []),
        (placed, named, ["'*rest' is gone"]),
        (placed, squeezed, ["positional parameters were ['a'] and are ['a', 'b']"]),
        (named, either, ["'**rest' is gone"]),
    ],
)
def test_how_arguments_are_passed(
    was: Callable[..., Any], now: Callable[..., Any], says: list[str]
) -> None:
    sentences = broken({"work": of(was)}, {"work": of(now)})
    assert len(sentences) == len(says)
    assert all(text in found for text, found in zip(says, sentences, strict=True))


def test_a_task_may_move_but_not_vanish() -> None:
    assert broken({"work": of(before)}, {"moved": of(before, 1, "work")}) == []
    (sentence,) = broken({"work": of(before)}, {"moved": of(before)})
    assert "is gone" in sentence


def test_versions_only_grow() -> None:
    (sentence,) = broken({"work": of(before, 3)}, {"work": of(before, 2)})
    assert "below the locked 3" in sentence
