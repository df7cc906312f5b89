"""Limits whose tasks are in several queues, where each queue counts by itself."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from conveyor import Concurrency, Conveyor, Rate
from conveyor.worker.registry import limits_of_several_queues, warn_of_limits_that_multiply


@pytest.fixture
def app() -> Conveyor:
    app = Conveyor("sqlite://")

    @app.task(queue="a", rate_limit=Rate("10/s", name="partner"))
    async def one() -> None: ...

    @app.task(queue="b", rate_limit=Rate("10/s", name="partner"), concurrency=Concurrency(2))
    async def two() -> None: ...

    @app.task(queue="b", concurrency=Concurrency(3, name="shop"))
    async def three() -> None: ...

    @app.task(queue="b", concurrency=Concurrency(3, name="shop"))
    async def four() -> None: ...

    return app


def test_they_are_found(app: Conveyor) -> None:
    assert limits_of_several_queues(app.definitions) == {"partner": ["a", "b"]}


@pytest.mark.parametrize("spans", [True, False])
def test_a_worker_warns_only_where_they_multiply(
    app: Conveyor, caplog: pytest.LogCaptureFixture, *, spans: bool
) -> None:
    broker = SimpleNamespace(gates=SimpleNamespace(span_queues=spans))
    warn_of_limits_that_multiply(app.definitions, cast("Any", broker))
    text = "limit 'partner' is shared by the queues a, b, but in a Redis Cluster"
    assert (text in caplog.text) is not spans
