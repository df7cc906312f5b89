"""What commands print: help, completion, tables for people and for pipes, JSON for programs."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conveyor.cli import output
from conveyor.core.task import Pause
from tests.cli.conftest import APP, Inside, Shell

COMMANDS = [
    "",
    "up",
    "worker",
    "keeper",
    "enqueue",
    "tasks",
    "tasks list",
    "tasks show",
    "tasks logs",
    "tasks retry",
    "tasks reschedule",
    "tasks run-now",
    "tasks cancel",
    "queues",
    "queues list",
    "queues pause",
    "queues resume",
    "workers",
    "dead",
    "dead list",
    "dead requeue",
    "dead discard",
    "migrate",
    "doctor",
    "bench",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(inside: Inside, command: str) -> None:
    ran = inside(*command.split(), "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: {' '.join(['conveyor', *command.split()])} ")
    documented = [line for line in ran.out.splitlines()[1:] if line.strip()]
    assert not documented[0].startswith("Options:"), "a sentence says what it does"


@pytest.mark.parametrize("group", ["", "tasks", "queues", "dead"])
def test_a_group_alone_shows_its_commands(inside: Inside, group: str) -> None:
    ran = inside(*group.split())
    assert ran.code == 2
    assert "Commands:" in ran.out + ran.err


def test_the_version_is_the_package_s(inside: Inside) -> None:
    from conveyor import __version__

    assert inside("--version").out == f"conveyor {__version__}\n"


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed(plain_shell: Shell, kind: str) -> None:
    ran = plain_shell.ok(
        "--show-completion", kind, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "_CONVEYOR_COMPLETE" in ran.out


def test_completion_answers(plain_shell: Shell) -> None:
    ran = plain_shell.ok(
        COMP_WORDS="conveyor t", COMP_CWORD="1", _CONVEYOR_COMPLETE="complete_bash"
    )
    assert ran.out.split() == ["tasks"]


def test_a_pipe_gets_every_cell_whole(inner_shell: Shell) -> None:
    ids = [inner_shell.enqueue("add", "--args", "[1]") for _ in range(3)]
    ran = inner_shell.ok("tasks", "list", COLUMNS="40", TERM="dumb")
    title, *rows = ran.out.splitlines()
    names = ["id", "task", "queue", "priority", "state", "attempts", "enqueued (UTC)"]
    assert re.split(r"\s{2,}", title) == names
    assert [row.split()[0] for row in rows] == ids[::-1]
    assert all("tests.cli.shop.add  default  5         ○ queued  0/2" in row for row in rows)
    assert "\x1b" not in ran.out


def test_a_pipe_that_knows_no_symbols_gets_question_marks(inner_shell: Shell) -> None:
    inner_shell.enqueue("add", "--args", "[1]")
    assert "? queued" in inner_shell.ok("tasks", "list", PYTHONIOENCODING="ascii").out


def on_terminal(shell: Shell, *words: str, columns: int) -> list[str]:
    """Run a command on a terminal of so many columns; return its lines without colours."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "conveyor", *words],
            cwd=shell.folder,
            env={**shell.environment, "COLUMNS": str(columns), "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.STDOUT,
        )
        os.close(theirs)
        text = _read_to_the_end(ours)
        assert process.wait(30) == 0
    finally:
        os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def _read_to_the_end(descriptor: int) -> str:
    text = b""
    while True:
        try:
            chunk = os.read(descriptor, 65_536)
        except OSError:  # Linux: the other side is closed
            break
        if not chunk:
            break
        text += chunk
    return text.decode()


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_behind_the_output_is_one_sentence(inner_shell: Shell) -> None:
    inner_shell.enqueue("add", "--args", "[1]")
    with Path("/dev/full").open("w") as full:
        listing = inner_shell.start("tasks", "list", stdout=full, stderr=subprocess.PIPE)
        _, said = listing.communicate(timeout=60)
    assert listing.returncode == 1
    assert said == "error: standard output cannot be written: No space left on device\n"


def test_a_terminal_of_80_columns_gets_lines_of_80(inner_shell: Shell) -> None:
    long = "x" * 60 + "\\n" + "y" * 60
    tasks = [
        inner_shell.enqueue("add", "--args", "[1]"),
        inner_shell.enqueue("fail", "--args", f'["{long}"]'),
    ]
    inner_shell.ok("worker", APP, "--burst")
    title, *rows = on_terminal(inner_shell, "tasks", "list", columns=80)
    assert title.split() == ["id", "task", "queue", "state"]
    assert [row.split()[0] for row in rows] == tasks[::-1]
    assert rows[0].endswith("✕ failed")
    assert "tests.cli.shop.fail" in rows[0]

    title, row = on_terminal(inner_shell, "dead", "list", columns=80)
    assert title.split() == ["id", "task", "queue", "error"]
    assert row.startswith(tasks[1])
    assert row.endswith("…")
    assert len(row) == 80

    for columns in (60, 100, 200):
        for line in on_terminal(inner_shell, "dead", "list", columns=columns):
            assert len(line) <= max(columns, 36 + 2 * 18)


class TestTable:
    def test_cells_are_one_line_of_printable_characters(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output.table(("id", "error"), [("1", "a\n\tb\x1b[31m\x00c"), ("2", None)], empty="none")
        assert capsys.readouterr().out == "id  error\n1   a b\ufffd[31m\ufffdc\n2\n"

    def test_no_rows_are_a_sentence(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.table(("id",), [], empty="there is nothing")
        assert capsys.readouterr().out == "there is nothing\n"

    def test_wide_characters_stay_in_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.table(("a", "b"), [("日本", "x"), ("ab", "y")], empty="none")
        assert capsys.readouterr().out == "a     b\n日本  x\nab    y\n"

    def test_a_dotted_name_is_cut_at_its_front(self) -> None:
        assert output._cell("task", "shop.tasks.mail.send_welcome", 16) == "…il.send_welcome"
        assert output._cell("error", "ValueError: no", 8) == "ValueEr…"

    def test_spare_columns_go_until_the_others_fit(self) -> None:
        titles, grid = output._without_spare(
            ["id", "task", "n"], [["x" * 36, "t" * 40, "1" * 5]], ["n"], 56
        )
        assert (titles, grid) == (["id", "task"], [["x" * 36, "t" * 40]])
        assert output._fitted(titles, [36, 40], 56) == [36, 18]
        assert output._fitted(titles, [36, 40], 10) == [36, 16]


def test_json_has_names_for_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    output.as_json({"pause": Pause("a move", "ada", 1.5), "raw": (b"\x00",), "set": None})
    assert capsys.readouterr().out == (
        '{\n  "pause": {\n    "reason": "a move",\n    "by": "ada",\n    "at": 1.5\n  },\n'
        '  "raw": [\n    "AA=="\n  ],\n  "set": null\n}\n'
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.0314, "31 ms"), (59.94, "59.9 s"), (90, "1.5 min"), (7_200, "2.0 h")],
)
def test_durations_read_as_a_person_says_them(seconds: float | None, text: str) -> None:
    assert output.span(seconds) == text


def test_bench_prints_json(plain_shell: Shell, tmp_path: Path) -> None:
    figures = plain_shell.ok("bench", "--count", "200").json
    assert figures["tasks"] == 200
    assert figures["run_per_second"] > 0
    assert figures["start_latency_ms"]["p50"] > 0
    assert not list(tmp_path.glob("*.db"))


def test_commands_of_other_packages_join(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from conveyor.cli import main

    class Point:
        def __init__(self, name: str, found: object) -> None:
            self.name = name
            self._found = found

        def load(self) -> object:
            return self._found

    def greet() -> None:
        """Greet."""
        typer.echo("hello")

    group = typer.Typer()
    group.command("bye")(lambda: typer.echo("bye"))
    group.command("again")(lambda: typer.echo("again"))
    monkeypatch.setattr(main, "app", typer.Typer(pretty_exceptions_enable=False))
    points = [Point("greet", greet), Point("parting", group)]
    monkeypatch.setattr(main, "entry_points", lambda group: points)
    assert inside("greet").out == "hello\n"
    monkeypatch.setattr(main, "app", typer.Typer(pretty_exceptions_enable=False))
    assert inside("parting", "bye").out == "bye\n"
