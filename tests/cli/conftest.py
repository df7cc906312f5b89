"""The command line, run as a user runs it: by subprocess, in a folder of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conveyor.cli.main import main
from tests.stores import EACH_MEASURED_ONCE, postgres_template

__all__ = ["postgres_template"]

ROOT = Path(__file__).parents[2]
APP = "tests.cli.shop:app"
STAYS = {"up", "worker", "keeper"}


@dataclass
class Ran:
    """What a command did."""

    command: str
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, parsed."""
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one line that an error is told in; fails when there is more than that."""
        assert not self.out, self
        (line,) = self.err.splitlines()
        assert line.startswith("error: "), self
        return line.removeprefix("error: ")


class Shell:
    """Runs `conveyor` commands on one store."""

    def __init__(self, url: str, folder: Path, inside: "Inside | None" = None) -> None:
        self.folder = folder
        self._url = url
        self._inside = inside
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"COLUMNS", "FORCE_COLOR", "NO_COLOR", "CONVEYOR_URL"}
        }
        self.environment["PYTHONPATH"] = str(ROOT)
        self.environment["CONVEYOR_URL"] = url

    def __call__(self, *words: str, **environment: str) -> Ran:
        """Run one command to its end."""
        if self._inside is not None and words[0] not in STAYS and not environment:
            # The app of this process has read its environment already.
            url = ("--url", self._url) if words[0] == "enqueue" else ()
            return self._inside(*words, *url)
        done = subprocess.run(
            [sys.executable, "-m", "conveyor", *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback (most recent call last)" not in done.stderr, done.stderr
        return Ran(" ".join(words)[:200], done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, **environment: str) -> Ran:
        """Run one command that has to succeed."""
        ran = self(*words, **environment)
        assert ran.code == 0, ran
        return ran

    def enqueue(self, *words: str) -> str:
        """Enqueue a task of the test app; return its id."""
        return self.ok("enqueue", APP, *words).out.strip()

    def start(self, *words: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a command that stays; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "conveyor", *words],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            **options,
        )


Inside = Callable[..., Ran]


@pytest.fixture
def inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Inside:
    """Runs a command within this process: a tenth of the time, for many small ones."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["conveyor", *words])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return Ran(" ".join(words), int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(params=EACH_MEASURED_ONCE)
def broker_url(request: pytest.FixtureRequest) -> str:
    """A fresh store of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def shell(
    broker_url: str, tmp_path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """A shell on a fresh store of each kind; only what stays, or is given an environment, is a
    process of its own: starting Python takes ten times as long as the command."""
    # The test server keeps nothing on disk: said aloud, it is no reason for a warning.
    url = broker_url + ("&durability=fast" if broker_url.startswith("redis") else "")
    monkeypatch.setenv("CONVEYOR_URL", url)
    return Shell(url, tmp_path, inside)


@pytest.fixture
def inner_shell(
    sqlite_url: str, tmp_path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """A `shell` on a fresh SQLite file, for what does not depend on the store."""
    monkeypatch.setenv("CONVEYOR_URL", sqlite_url)
    return Shell(sqlite_url, tmp_path, inside)


@pytest.fixture
def plain_shell(sqlite_url: str, tmp_path: Path) -> Shell:
    """A shell on a fresh SQLite file, where every command is a process as it is for users."""
    return Shell(sqlite_url, tmp_path)
