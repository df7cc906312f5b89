"""The reference is complete: what exists is mentioned, and the numbers are the code's."""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

import conveyor
from conveyor import Conveyor, CurrentTask, Retry, logbuffer
from conveyor.brokers import base
from conveyor.brokers.url import connect
from conveyor.client import TaskHandle
from conveyor.core import codec, options, task
from conveyor.core.errors import InvalidURL
from conveyor.defining import TaskOptions
from conveyor.keeper import keeper, pauses
from conveyor.tasks import Enqueuer, TaskDefinition
from conveyor.worker import engine, notes, outcomes
from conveyor.worker.settings import WorkerSettings
from conveyor.workflows import MapNode, Node, Results, Workflow, WorkflowHandle
from tests.docs.pages import DOCS

REFERENCE = DOCS / "reference"


def _text(*pages: str) -> str:
    return "\n".join((REFERENCE / page).read_text("utf-8") for page in pages)


def _missing(names: list[str], *pages: str) -> list[str]:
    """Names that the pages never show as code."""
    text = _text(*pages)
    return [name for name in names if not _shown(name, text)]


def _shown(name: str, text: str) -> bool:
    marks = [
        f"`{name}`",
        f"`{name}(",
        f"`{name} ",
        f" {name}(",
        f"task.{name}(",
        f"`conveyor.{name}`",
    ]
    return any(mark in text for mark in marks)


def _public(kind: type) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_")]


def _parameters(function: object) -> list[str]:
    if function is TaskOptions:
        return list(TaskOptions.__annotations__)
    found = inspect.signature(function).parameters  # type: ignore[arg-type]
    return [name for name in found if name not in {"self", "fn"}]


@pytest.mark.parametrize(
    "module",
    [
        "conveyor",
        "conveyor.effects",
        "conveyor.errors",
        "conveyor.inspect",
        "conveyor.limits",
        "conveyor.maintenance",
        "conveyor.offload",
        "conveyor.remote",
        "conveyor.sealing",
        "conveyor.strikes",
        "conveyor.testing",
        "conveyor.workers",
        "conveyor.workflows",
        "conveyor.transactions",
    ],
)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    assert not _missing(import_module(module).__all__, "api.md", "errors.md")


def test_the_members_that_users_call_are_in_the_reference() -> None:
    kinds = (TaskHandle, Enqueuer, CurrentTask, WorkflowHandle, Workflow, Node, MapNode, Results)
    members = [name for kind in kinds for name in _public(kind)]
    inner = {"lease", "deadline_at", "note", "log_lines", "keep_lines", "noted", "over"}
    inner |= {"steps", "must_own", "rename", "from_plain", "joined_session", "lend", "home"}

    assert not _missing([name for name in members if name not in inner], "api.md")


@pytest.mark.parametrize(
    "function",
    [Conveyor.__init__, TaskOptions, Enqueuer.with_options, Retry],
    ids=lambda f: f.__qualname__,
)
def test_every_option_is_in_the_reference(function: object) -> None:
    assert not _missing(_parameters(function), "options.md")


def _commands() -> Iterator[tuple[str, Any]]:
    """Every command that can be run, with its name. Typer brings its own Click: no types here."""
    from conveyor.cli.main import add_commands, app

    add_commands(app)
    waiting: list[tuple[str, Any]] = [("conveyor", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        children: dict[str, Any] = getattr(command, "commands", {})
        waiting += [(f"{name} {key}", child) for key, child in children.items()]
        if not children:
            yield name, command


def _flags() -> set[str]:
    return {
        flag
        for _, command in _commands()
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("--")
    }


def test_every_command_is_in_the_reference() -> None:
    text = _text("cli.md").replace("`", " ")

    assert not [name for name, _ in _commands() if f"{name} " not in text]


def test_every_option_of_every_command_is_in_the_reference() -> None:
    text = _text("cli.md")

    assert not [flag for flag in sorted(_flags()) if flag not in text]


def test_no_option_is_made_up() -> None:
    root = {"--help", "--version", "--install-completion", "--show-completion"}

    assert set(re.findall(r"(?<![-\w])--[a-z][a-z-]*", _text("cli.md"))) <= _flags() | root


def test_exit_codes_are_those_of_the_code() -> None:
    from conveyor.cli import failures

    codes = {failures.BROKEN, failures.BAD_INPUT, failures.UNAVAILABLE, failures.NOT_FOUND}

    assert codes == {1, 2, 3, 4}
    assert not [code for code in (0, *codes) if f"\n| {code} |" not in _text("cli.md")]


_SETTINGS = WorkerSettings()
NUMBERS = [
    ("lease of a worker", f"{base.LEASE_SECONDS:g} s"),
    ("renewed", f"every {_SETTINGS.renew_every:g} s"),
    ("round of the keeper", f"every {keeper.EVERY:g} s"),
    ("leadership of a keeper", f"{base.LEASE_SECONDS * keeper.LEADERSHIP:g} s"),
    ("running tasks after SIGTERM", f"{_SETTINGS.shutdown_grace:g} s"),
    ("clean-up after a stop", f"{_SETTINGS.kill_grace:g} s"),
    ("own stop before a lease ends", f"{engine.SAFETY:g} s"),
    ("poll of an idle worker", f"{engine.POLL:g} s"),
    ("deaf child replaced", f"{_SETTINGS.deaf_after:g} s"),
    ("stalled event loop reported", f"{_SETTINGS.stalled_after:g} s"),
    ("arguments of a task, encoded", f"{codec.MAX_PAYLOAD // 1024} KiB"),
    ("key", f"{options.MAX_KEY} characters"),
    ("task name", f"{options.MAX_NAME} characters"),
    ("headers of a task, together", f"{options.MAX_HEADERS:,} characters"),
    ("reconnecting", f"{pauses.FIRST:g} to {pauses.LONGEST:g} s"),
    ("progress", f"{1 / notes.EVERY:g} writes a second"),
    ("log lines of an execution", f"first {logbuffer.HEAD_LINES} and last {logbuffer.TAIL_LINES}"),
    ("traceback", f"{outcomes.MAX_TRACEBACK:,} characters"),
    ("dead letter, failed or cancelled", f"{base.DEAD_RETENTION_SECONDS / 86_400:g} days"),
    (
        "record of a succeeded task, with its executions",
        f"{base.RETENTION_SECONDS / 3_600:g} h",
    ),
]


@pytest.mark.parametrize(("what", "value"), NUMBERS, ids=[what for what, _ in NUMBERS])
def test_the_numbers_are_those_of_the_code(what: str, value: str) -> None:
    assert f"\n| {what} | {value}" in _text("settings.md")


def test_the_fairness_bound_is_that_of_the_code() -> None:
    page = (DOCS / "howto" / "priorities.md").read_text("utf-8")

    assert f"one level per {task.SECONDS_PER_LEVEL:g} seconds" in page
    assert not [n for n, level in task.PRIORITIES.items() if f"`{n}` = {level}" not in page]


def test_the_front_door_is_what_the_reference_says() -> None:
    assert set(conveyor.__all__) <= set(dir(conveyor))
    assert issubclass(TaskDefinition, Enqueuer)


def _pages_naming(word: str) -> list[Path]:
    return [page for page in DOCS.rglob("*.md") if word in page.read_text("utf-8")]


def test_redis_always_says_what_a_failover_can_lose() -> None:
    first = (DOCS / "howto" / "redis.md").read_text("utf-8").split("\n\n")[1]

    assert (
        "a failover may lose the last moments of enqueues and may re-run finished tasks"
        in first.lower()
    )
    assert DOCS / "explanation" / "choosing-a-broker.md" in _pages_naming(
        "may re-run finished tasks"
    )


STORES = {
    "SQLite": "sqlite:///nowhere/conveyor.db",
    "PostgreSQL": "postgresql://localhost/conveyor",
    "Redis and Valkey": "redis://localhost/0",
}


def _section(title: str) -> str:
    return _text("urls.md").split(f"\n## {title}\n")[1].split("\n## ")[0]


def _options_said_to_exist(url: str) -> set[str]:
    """What the error about an unknown option lists."""
    with pytest.raises(InvalidURL) as refused:
        connect(f"{url}?frobnicate=1")
    return set(re.findall(r"\w+", re.split(r"(?:knows|known:|are:?) ", str(refused.value))[-1]))


@pytest.mark.parametrize(("title", "url"), STORES.items(), ids=list(STORES))
def test_every_option_of_a_url_is_in_the_reference(title: str, url: str) -> None:
    rows = re.findall(r"^\| (`\w+`[^|]*) \|.*\|.*\|$", _section(title), re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))

    assert documented >= _options_said_to_exist(url)
    assert len(_options_said_to_exist(url)) >= 2
