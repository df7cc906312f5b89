"""What goes in and comes out: typed values, and those that cannot be stored or read."""

import dataclasses
import datetime as dt
import uuid
from typing import Any

import msgspec
import pydantic
import pytest

from conveyor import Conveyor, TaskFailed
from conveyor.core.codec import MAX_PAYLOAD
from conveyor.core.task import NewTask, State, Task
from conveyor.system import new_id
from tests.running import at_work, ended


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Order(pydantic.BaseModel):
    id: uuid.UUID
    at: dt.datetime
    tags: set[str]


class Line(msgspec.Struct):
    text: str
    points: list[Point]


async def test_arguments_and_results_come_back_as_their_types(app: Conveyor) -> None:
    @app.task
    async def move(point: Point, *, by: tuple[int, int]) -> Point:
        assert isinstance(point, Point)
        assert isinstance(by, tuple)
        return Point(point.x + by[0], point.y + by[1])

    @app.task
    def touch(order: Order) -> Order:
        assert isinstance(order, Order)
        return order

    @app.task
    async def draw(lines: list[Line]) -> Line:
        return lines[-1]

    order = Order(id=uuid.uuid4(), at=dt.datetime.now(dt.UTC), tags={"a", "b"})
    line = Line("l", [Point(1, 2)])
    async with at_work(app):
        assert await (await move.enqueue(Point(1, 2), by=(10, 20))).result(10) == Point(11, 22)
        assert await (await touch.enqueue(order)).result(10) == order
        assert await (await draw.enqueue([line, line])).result(10) == line


async def test_none_nan_and_the_largest_integers_survive(app: Conveyor) -> None:
    @app.task
    async def echo(value: Any) -> Any:
        return value

    values: list[Any] = [
        None,
        True,
        -(2**63),
        2**64 - 1,
        1e308,
        "",
        "\x00é\U0001f600",
        b"\xff",
        [],
        {},
    ]
    async with at_work(app):
        handles = await app.enqueue_many(echo.bind(value) for value in values)
        assert [await handle.result(10) for handle in handles] == values


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_an_unserialisable_result_is_a_dead_letter_at_once(app: Conveyor, kind: str) -> None:
    runs = []

    def give() -> Any:
        runs.append(1)
        return {"ok": [1, object()]}

    async def give_async() -> Any:
        return give()

    task = app.task(give_async if kind == "loop" else give)
    async with at_work(app):
        handle = await task.enqueue()
        with pytest.raises(TaskFailed, match=r"the result of .*builtins\.object at \['ok'\]\[1\]"):
            await handle.result(10)
        info = await handle.info()
    assert info.state is State.FAILED
    assert info.reason == "not retryable: conveyor.core.errors.NotSerialisable"
    assert len(runs) == 1


async def test_an_oversized_result_is_a_dead_letter_that_names_the_limit(app: Conveyor) -> None:
    @app.task
    async def large() -> bytes:
        return bytes(MAX_PAYLOAD + 1)

    async with at_work(app):
        handle = await large.enqueue()
        with pytest.raises(TaskFailed, match="take 262,150 bytes encoded and the limit is 262,144"):
            await handle.result(10)
    assert (await handle.info()).attempts == 1


async def test_a_result_just_below_the_limit_is_kept(app: Conveyor) -> None:
    @app.task
    async def large() -> bytes:
        return bytes(MAX_PAYLOAD - 5)

    async with at_work(app):
        assert len(await (await large.enqueue()).result(10)) == MAX_PAYLOAD - 5


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (msgspec.msgpack.encode((["x", "y"], {})), "fit"),
        (msgspec.msgpack.encode((["not a number"], {})), "Expected `int`"),
        (msgspec.msgpack.encode(([1], {"nonsense": 1})), "nonsense"),
        (b"\xc1", "fit"),
        (b"", "fit"),
        (msgspec.msgpack.encode({"no": "call"}), "fit"),
    ],
)
async def test_stored_arguments_that_do_not_fit_are_a_dead_letter(
    app: Conveyor, payload: bytes, complaint: str
) -> None:
    @app.task(name="square")
    async def square(n: int) -> int:
        return n * n

    client = await app.client()
    task = Task(new_id(), "square", "default", 5, payload, app.clock.time())
    async with at_work(app):
        await client.broker.push([NewTask(task)])
        with pytest.raises(TaskFailed, match="the stored arguments do not fit square") as failure:
            await app.handle(task.id).result(10)
        assert complaint in str(failure.value)
        assert failure.value.error_type == "conveyor.errors.InvalidArguments"
        assert await (await square.enqueue(3)).result(10) == 9
    info = await ended(app.handle(task.id))
    assert (info.state, info.attempts) == (State.FAILED, 1)


async def test_a_result_is_there_before_the_wait_returns(app: Conveyor) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async with at_work(app):
        handles = await app.enqueue_many(double.bind(n) for n in range(200))
        assert [await handle.result(10) for handle in handles] == [2 * n for n in range(200)]
        infos = [await handle.info() for handle in handles]
    assert {info.state for info in infos} == {State.SUCCEEDED}
    assert {info.execution for info in infos} == {1}
    assert {info.attempts for info in infos} == {0}
