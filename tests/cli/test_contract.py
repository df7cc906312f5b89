"""`conveyor contract`: code against what is queued."""

import asyncio

from conveyor import Conveyor
from tests.cli.conftest import Shell

CODE = """
from conveyor import Conveyor
app = Conveyor()

@app.task(name="greet")
async def greet({parameters}): ...

@app.task(name="note")
async def note(**fields): ...
"""


def write(shell: Shell, parameters: str) -> str:
    """Write the app's module; return what names the app."""
    (shell.folder / "people.py").write_text(CODE.format(parameters=parameters))
    return "people:app"


def test_waiting_calls_are_tried_against_the_parameters(plain_shell: Shell) -> None:
    target = write(plain_shell, "given, family")
    plain_shell.ok("contract", "lock", target)
    placed = plain_shell.ok("enqueue", target, "greet", "--args", '["Ada", "L."]').out.strip()
    kwargs = '{"given": "Ada", "family": "L."}'
    named = plain_shell.ok("enqueue", target, "greet", "--kwargs", kwargs).out.strip()
    assert plain_shell.ok("contract", "check", target, "--json").json == []
    for parameters, how, misfit, fits in (
        ("given, family, /", "by name", named, placed),
        ("*, given, family", "by position", placed, named),
    ):
        found = plain_shell("contract", "check", write(plain_shell, parameters))
        assert found.code == 1
        assert found.out.count(f"cannot be passed {how} any more") == 2
        assert misfit in found.out
        assert fits not in found.out


async def _with_a_workflow(url: str) -> None:
    async with Conveyor(url) as app:

        @app.task(name="note")
        async def note(**fields: object) -> None: ...

        flow = app.workflow("wait")
        signal = flow.wait_for("approved")
        nap = flow.sleep(600)
        other = app.workflow("inner")
        other.add(note)
        flow.add(note).after(signal, nap, flow.include(other))
        await flow.enqueue()


def test_the_tasks_of_workflows_are_known(plain_shell: Shell, sqlite_url: str) -> None:
    target = write(plain_shell, "")
    plain_shell.ok("contract", "lock", target)
    asyncio.run(_with_a_workflow(sqlite_url))
    waiting = plain_shell.ok("tasks", "list", "--json").json
    names = {task["name"] for task in waiting}
    assert names == {"conveyor.sleep", "conveyor.wait", "conveyor.flow"}
    assert plain_shell.ok("contract", "check", target, "--json").json == []
