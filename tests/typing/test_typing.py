"""Wrong arguments fail mypy and pyright; right ones keep their types."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
pytestmark = pytest.mark.unmeasured


def marked(file: Path) -> set[int]:
    lines = file.read_text().splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def mypy(file: Path, cache: Path) -> set[int]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache)]
    command += ["--config-file", "/dev/null", str(file)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in {0, 1}, done.stderr
    found = re.findall(rf"{re.escape(file.name)}:(\d+): error", done.stdout)
    return {int(number) for number in found}


def pyright(file: Path, folder: Path) -> set[int]:
    """Check a copy of the file in a folder of its own: the project's settings leave it out."""
    (folder / file.name).write_bytes(file.read_bytes())
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    report = json.loads(run([*command, "--project", str(folder)]).stdout)
    return {
        entry["range"]["start"]["line"] + 1
        for entry in report["generalDiagnostics"]
        if entry["severity"] == "error"
    }


@pytest.mark.parametrize("name", ["api.py", "wrong.py"])
def test_mypy_finds_exactly_what_is_wrong(name: str, tmp_path: Path) -> None:
    file = HERE / name
    assert mypy(file, tmp_path) == marked(file)


@pytest.mark.parametrize("name", ["api.py", "wrong.py"])
def test_pyright_finds_exactly_what_is_wrong(name: str, tmp_path: Path) -> None:
    file = HERE / name
    assert pyright(file, tmp_path) == marked(file)
