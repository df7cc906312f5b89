"""Commands that are only mentioned, in a sentence or a table, exist too."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from conveyor.cli.main import add_commands, app
from tests.docs.pages import code_spans, name_of, pages

add_commands(app)
ROOT_COMMAND: Any = typer.main.get_command(app)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_that_are_mentioned_exist(page: Path) -> None:
    mentioned = [span for span in code_spans(page) if span.startswith("conveyor ")]

    assert not [span for span in mentioned if (wrong := complaint(span)) and print(wrong) is None]


def complaint(span: str) -> str | None:
    """What is wrong with a command as it is written, if anything is."""
    words = shlex.split(span.replace("…", ""))[1:]
    command = ROOT_COMMAND
    while words and (children := getattr(command, "commands", None)):
        if re.fullmatch("[A-Z-].*", words[0]):
            break
        if words[0] not in children:
            return f"no such command: {span}"
        command = children[words.pop(0)]
    known = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {"--help"}
    known |= {"--install-completion", "--show-completion"} if command is ROOT_COMMAND else set()
    unknown = [word for word in words if word.startswith("--") and word not in known]
    return f"no such option: {unknown[0]} of {span}" if unknown else None


@pytest.mark.parametrize(
    ("span", "right"),
    [
        ("conveyor tasks show ID", True),
        ("conveyor dead requeue --all --name TASK", True),
        ("conveyor COMMAND --help", True),
        ("conveyor tasks frob", False),
        ("conveyor queues pause QUEUE --until noon", False),
    ],
)
def test_the_check_knows_right_from_wrong(span: str, right: bool) -> None:
    assert (complaint(span) is None) is right
