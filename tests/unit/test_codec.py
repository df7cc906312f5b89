"""The codec: values come back as themselves, and what cannot be stored is named with its place."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.core import codec
from conveyor.core.errors import NotSerialisable, PayloadTooLarge


class Colour(Enum):
    RED = "red"


@dataclass
class Address:
    street: str
    since: date


@dataclass
class Person:
    name: str
    addresses: list[Address]
    tags: set[str] = field(default_factory=set)


class Point(msgspec.Struct, frozen=True):
    x: float
    y: float


class Item(pydantic.BaseModel):
    sku: str
    price: Decimal
    at: datetime


class Order(pydantic.BaseModel):
    id: UUID
    items: list[Item]
    note: str | None = None


ITEM = Item(sku="a", price=Decimal("9.90"), at=datetime(2026, 1, 2, 3, 4, 5, 678, UTC))
ORDER = Order(id=UUID(int=7), items=[ITEM, ITEM])
PERSON = Person("Ada", [Address("St James's Square", date(1843, 1, 1))], {"maths"})

TYPED = [
    (int, 2**64 - 1),
    (float, 0.1),
    (str, "naïve ✓ \N{ROCKET}"),
    (bytes, bytes(range(256))),
    (bool, True),
    (type(None), None),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)),
    (datetime, datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - naive ones must survive as such
    (date, date(2026, 2, 28)),
    (time, time(23, 59, 59, 999_999)),
    (timedelta, timedelta(days=3, microseconds=1)),
    (UUID, UUID("0198c8f6-7c1e-7b3a-9d2f-000000000001")),
    (Decimal, Decimal("1234567890.123456789012345678901234567890")),
    (Colour, Colour.RED),
    (Point, Point(1.5, -2.0)),
    (Person, PERSON),
    (Item, ITEM),
    (Order, ORDER),
    (list[Order], [ORDER]),
    (dict[str, Item], {"one": ITEM}),
    (tuple[int, Point, Order], (1, Point(0, 0), ORDER)),
    (set[int], {1, 2, 3}),
    (frozenset[str], frozenset({"a"})),
    (dict[int, str], {1: "a"}),
    (list[Person | None], [PERSON, None]),
]


@pytest.mark.parametrize(("kind", "value"), TYPED, ids=lambda value: str(value)[:40])
def test_values_come_back_as_themselves(kind: Any, value: Any) -> None:
    assert codec.decoder(kind)(codec.encode(value, what="arguments")) == value


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_plain_values_need_no_types(value: Any) -> None:
    assert codec.decode(codec.encode(value, what="result")) == value


class Opaque:
    """Has no MessagePack form."""


OPAQUE = Opaque()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([[1, OPAQUE], {}], "[0][1]"),
        ([[], {"a": {"b": [0, OPAQUE]}}], "[1]['a']['b'][1]"),
        (({"x": (1, 2, OPAQUE)},), "[0]['x'][2]"),
        ([{3: OPAQUE}], "[0][3]"),
    ],
)
def test_the_culprit_is_named_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(NotSerialisable) as caught:
        codec.encode(value, what="arguments of 'mail.send'")
    message = str(caught.value)
    assert message.startswith("arguments of 'mail.send': ")
    assert f"{__name__}.Opaque at {place} cannot be stored" in message
    assert "pydantic model" in message


def test_a_culprit_at_the_top_has_no_place() -> None:
    with pytest.raises(NotSerialisable, match=r"result: .*Opaque cannot be stored"):
        codec.encode(OPAQUE, what="result")


@pytest.mark.parametrize(
    "value",
    [
        lambda: None,
        (number for number in range(3)),
        open,
        ValueError("an exception"),
        2**64,
        -(2**63) - 1,
        "\ud800",
        1 + 2j,
        [object],
        {"k": {("a", "b"): OPAQUE}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(NotSerialisable, match=r"result: .*cannot be stored"):
        codec.encode(value, what="result")


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotSerialisable, match="nested too deeply or contain themselves"):
        codec.encode(loop, what="arguments")


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotSerialisable, match="nested too deeply"):
        codec.encode(deep, what="arguments")


def test_the_limit_is_on_the_encoded_bytes() -> None:
    assert len(codec.encode(b"x" * 98, what="arguments", limit=100)) == 100
    with pytest.raises(PayloadTooLarge) as caught:
        codec.encode(b"x" * 99, what="arguments", limit=100)
    assert str(caught.value) == (
        "arguments take 101 bytes encoded and the limit is 100; "
        "store the data elsewhere and pass a reference"
    )


def test_the_default_limit_is_256_kib() -> None:
    codec.encode(b"x" * (codec.MAX_PAYLOAD - 5), what="arguments")
    with pytest.raises(PayloadTooLarge, match="262,145 bytes encoded and the limit is 262,144"):
        codec.encode(b"x" * (codec.MAX_PAYLOAD - 4), what="arguments")


@pytest.mark.parametrize(
    ("kind", "value", "where"),
    [
        (list[int], [1, "two"], r"\$\[1\]"),
        (dict[str, Point], {"p": {"x": 1.0}}, "y"),
        (Person, {"name": "Ada", "addresses": [{"street": "s", "since": "never"}]}, "since"),
    ],
)
def test_what_does_not_fit_its_type_is_named(kind: Any, value: Any, where: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=where):
        codec.decoder(kind)(codec.encode(value, what="arguments"))


def test_a_model_that_does_not_fit_says_so() -> None:
    data = codec.encode({"sku": "a", "price": "cheap", "at": ITEM.at}, what="arguments")
    with pytest.raises(msgspec.ValidationError, match="price"):
        codec.decoder(Item)(data)


def test_a_type_nobody_knows_how_to_build_is_refused() -> None:
    with pytest.raises((TypeError, NotImplementedError, msgspec.ValidationError)):
        codec.decoder(Opaque)(codec.encode({}, what="arguments"))


@given(st.binary(max_size=50))
def test_foreign_bytes_are_an_error_never_a_surprise(data: bytes) -> None:
    try:
        codec.decoder(Person)(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
