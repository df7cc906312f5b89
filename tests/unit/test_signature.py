"""Arguments: checked at enqueue, typed again when they come out of the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from conveyor.core.codec import encode
from conveyor.core.errors import InvalidArguments
from conveyor.core.signature import Signature


@dataclass
class Point:
    x: int
    y: int


def typed(when: datetime, who: UUID, /, where: Point, *rest: int, loud: bool = False) -> None:
    """Take one of each kind of parameter."""


def plain(a, b=2, **extra):  # type: ignore[no-untyped-def]
    """Take untyped parameters."""


def round_trip(fn: Any, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return Signature(fn, "t").decode(encode((args, kwargs), what="arguments"))


NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
WHO = UUID("018f3b2c-0000-7000-8000-000000000001")


def test_values_come_back_as_their_annotated_types() -> None:
    args, kwargs = round_trip(typed, NOW, WHO, Point(1, 2), 3, 4, loud=True)
    assert args == (NOW, WHO, Point(1, 2), 3, 4)
    assert kwargs == {"loud": True}


def test_keyword_arguments_are_typed_too() -> None:
    _, kwargs = round_trip(typed, NOW, WHO, where=Point(5, 6))
    assert kwargs == {"where": Point(5, 6)}


def test_more_arguments_than_a_short_array_holds() -> None:
    numbers = list(range(40))
    args, _ = round_trip(typed, NOW, WHO, Point(1, 2), *numbers)
    assert list(args[3:]) == numbers


def test_untyped_parameters_take_plain_values() -> None:
    assert round_trip(plain, 1, b=[2], c={"d": 3}) == ((1,), {"b": [2], "c": {"d": 3}})


def test_json_arguments_fit_typed_parameters() -> None:
    args, _ = Signature(typed, "t").decode(
        encode((["2026-11-24T09:30:00Z", str(WHO), {"x": 1, "y": 2}], {}), what="arguments")
    )
    assert args == (NOW, WHO, Point(1, 2))


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'when'"),
        ((1, 2, 3), {"quiet": True}, "unexpected keyword argument 'quiet'"),
        ((1,), {"when": 2}, "when"),
    ],
)
def test_a_call_that_does_not_fit_says_why(
    args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArguments, match="nothing was enqueued") as caught:
        Signature(typed, "shop.typed").check(args, kwargs)
    assert said in str(caught.value)
    assert "shop.typed(" in str(caught.value)


def test_a_stored_value_of_the_wrong_type_names_its_path() -> None:
    payload = encode(([NOW, WHO, {"x": 1, "y": "two"}], {}), what="arguments")
    with pytest.raises(msgspec.ValidationError, match=r"\$\[2\]\.y"):
        Signature(typed, "t").decode(payload)


def test_a_stored_call_that_no_longer_fits_is_refused() -> None:
    payload = encode(([], {}), what="arguments")
    with pytest.raises(InvalidArguments):
        Signature(plain, "t").decode(payload)
