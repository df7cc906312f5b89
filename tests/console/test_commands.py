"""`conveyor serve`, `up` and `console migrate`, as processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.worker.harness import ROOT, eventually

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
TARGET = "tests.console.shop:app"
SECRET = "x" * 40


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CONVEYOR_")}
    return {**kept, "CONVEYOR_URL": f"sqlite:///{(folder / 'conveyor.db').as_posix()}", **more}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "conveyor", *arguments],
        cwd=ROOT,
        env=environment(folder, **more),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


class Running:
    """A command that stays, and what it said."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self.process = process
        self._said = said

    @property
    def text(self) -> str:
        return self._said.read_text()

    @property
    def address(self) -> str:
        found = eventually(lambda: re.search(r"console: (http://\S+)", self.text), within=30)
        return str(found[1])

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@contextmanager
def staying(folder: Path, *arguments: str, **more: str) -> Iterator[Running]:
    said = folder / f"said-{os.urandom(4).hex()}"
    with said.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "conveyor", *arguments, "--port", "0"],
            cwd=ROOT,
            env=environment(folder, **more),
            stderr=lines,
        )
    running = Running(process, said)
    try:
        yield running
    except BaseException:
        print(running.text)
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(40)


def test_up_runs_everything_and_shows_the_first_password_once(tmp_path: Path) -> None:
    with staying(tmp_path, "up", TARGET) as up:
        address = up.address
        found = re.search(r"first administrator (\S+), password (\S+) ", up.text)
        assert found is not None
        with httpx.Client(base_url=address) as http:
            login = {"email": found[1], "password": found[2]}
            token = http.post("/api/v1/auth/login", json=login).json()["access_token"]
            http.cookies.clear()
            http.headers["Authorization"] = f"Bearer {token}"
            task = http.post("/api/v1/tasks", json={"name": "shop.greet", "args": ["Ada"]})
            assert task.status_code == 201
            eventually(
                lambda: run(tmp_path, "tasks", "show", task.json()["id"]).stdout.count("succeeded")
            )
        assert up.end() == 0
    with staying(tmp_path, "up", TARGET) as again:
        assert again.address
        assert "password" not in again.text


def test_up_ends_when_its_worker_cannot_live(tmp_path: Path) -> None:
    with staying(tmp_path, "up", TARGET) as up:
        assert up.address
        children = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children")
        (worker,) = eventually(lambda: children.read_text().split())
        os.kill(int(worker), signal.SIGKILL)
        assert up.process.wait(30) != 0


def test_serve_makes_the_administrator_it_is_told(tmp_path: Path) -> None:
    told = {
        "CONVEYOR_ADMIN_EMAIL": "ada@example.com",
        "CONVEYOR_ADMIN_PASSWORD": "long enough, I say",
    }
    with staying(tmp_path, "serve", TARGET, CONVEYOR_SECRET_KEY=SECRET, **told) as serve:
        login = {"email": "ada@example.com", "password": "long enough, I say"}
        answer = httpx.post(f"{serve.address}/api/v1/auth/login", json=login)
        assert answer.json()["user"]["role"] == "admin"
        assert "long enough" not in serve.text
        assert serve.end() == 0


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("arguments", "more", "words"),
    [
        (["--host", "0.0.0.0"], {}, "set CONVEYOR_SECRET_KEY first"),
        ([], {"CONVEYOR_SECRET_KEY": "short"}, "CONVEYOR_SECRET_KEY: needs 32 bytes or more"),
        ([], {"CONVEYOR_DATABASE_URL": "mysql://x/y"}, "not in 'mysql'"),
        ([], {"CONVEYOR_DATABASE_URL": "nonsense"}, "is not a database URL"),
        ([], {"CONVEYOR_REGISTRATION": "perhaps"}, "CONVEYOR_REGISTRATION"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(
    tmp_path: Path, arguments: list[str], more: dict[str, str], words: str
) -> None:
    ended = run(tmp_path, "serve", TARGET, *arguments, **more)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.unmeasured
def test_a_server_database_is_migrated_by_hand(tmp_path: Path, postgres_url: str) -> None:
    more = {"CONVEYOR_DATABASE_URL": postgres_url}
    refused = run(tmp_path, "serve", TARGET, "--port", "0", **more)
    assert refused.returncode != 0
    assert "conveyor console migrate" in refused.stderr
    first, second = (run(tmp_path, "console", "migrate", **more) for _ in range(2))
    assert "console: nothing → " in first.stdout
    assert "the schema is current" in second.stdout
    with staying(tmp_path, "serve", TARGET, **more) as serve:
        assert httpx.get(f"{serve.address}/readyz").json() == {"status": "ready"}
