"""Worker processes import the tests' app from the repository, wherever they run."""

from pathlib import Path

import pytest

from tests.worker.harness import ROOT


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
