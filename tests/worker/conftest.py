"""Worker processes import the tests' app from the repository, wherever they run."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor.brokers.base import Broker
from conveyor.brokers.url import connect
from tests.stores import postgres_template
from tests.worker.harness import ROOT

__all__ = ["postgres_template"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def store(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    """A store that workers started in this test find by themselves."""
    monkeypatch.setenv("CONVEYOR_URL", sqlite_url)
    broker = connect(sqlite_url)
    await broker.open()
    yield broker
    await broker.close()
