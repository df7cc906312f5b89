"""`conveyor workflows` on every store."""

import json

from tests.cli.conftest import APP, Shell

DEFINITION = {
    "name": "sums",
    "nodes": [
        {"name": "first", "task": "tests.cli.shop.add", "args": [{"$input": "number"}, 1]},
        {"name": "wide", "map": "tests.cli.shop.add", "items": 7, "window": 3},
        *[
            {"name": f"side {n}", "task": "tests.cli.shop.add", "args": [{"$result": "first"}]}
            for n in range(7)
        ],
        {
            "name": "large",
            "task": "tests.cli.shop.add",
            "args": [{"$result": "first"}, 100],
            "when": "first.result > 1000",
        },
        {"name": "ask", "wait_for": "go", "after": ["first"]},
        {"name": "last", "task": "tests.cli.shop.add", "args": [{"$result": "ask"}, 1]},
        {
            "name": "broken",
            "task": "tests.cli.shop.fail",
            "args": ["no"],
            "after": {"last": "end"},
            "max_attempts": 1,
        },
    ],
    "result": "last",
}


def test_a_run_from_its_definition_to_its_retry(shell: Shell) -> None:
    (shell.folder / "sums.json").write_text(json.dumps(DEFINITION), "utf-8")
    run = shell.ok("workflows", "start", "sums.json", "--inputs", '{"number": 4}').out.strip()
    shell.ok("worker", APP, "--burst")

    assert run in shell.ok("workflows", "list").out
    (listed,) = shell.ok("workflows", "list", "--status", "running", "--json").json
    assert (listed["id"], listed["name"]) == (run, "sums")
    drawn = shell.ok("workflows", "show", run).out
    assert "sums  " + run in drawn
    assert "side 0 … side 6  ×7  ● 7" in drawn
    assert "↷ large  skipped  when first.result > 1000" in drawn
    assert "7 children" in drawn
    assert "◇ ask  scheduled" in drawn
    chart = shell.ok("workflows", "show", run, "--mermaid").out
    assert chart.startswith("flowchart TD\n")
    assert 'n9["large<br/>skipped"]' in chart
    assert "waits for the signal 'go'" in shell.ok("workflows", "why", run, "ask").out
    assert shell.ok("workflows", "why", run, "large").out == (
        "it is skipped\nfirst.result (= 5) > 1000 does not hold\n"
    )

    assert shell.ok("workflows", "signal", run, "go", "--value", "41").out == "go  sent\n"
    assert shell("workflows", "signal", run, "go").code == 1
    shell.ok("worker", APP, "--burst")
    shown = shell.ok("workflows", "show", run, "--json").json
    assert shown["status"] == "failed"
    assert {node["name"]: node["state"] for node in shown["nodes"]}["broken"] == "failed"
    assert shell.ok("workflows", "retry", run).out == "broken  starts anew\n"
    assert shell.ok("workflows", "cancel", run, "--reason", "enough").out.endswith("cancelled\n")
    assert "(enough)" in shell.ok("workflows", "show", run).out

    exported = shell.ok("workflows", "export", run).json
    (shell.folder / "again.json").write_text(json.dumps(exported), "utf-8")
    shell.ok("workflows", "start", "again.json", "--inputs", '{"number": 4}')


def test_what_is_wrong_is_said_in_a_sentence(shell: Shell) -> None:
    nobody = "01890000-0000-7000-8000-000000000000"
    for command in ("show", "cancel", "retry", "export"):
        ran = shell("workflows", command, nobody)
        assert (ran.code, "no workflow run has the id" in ran.sentence) == (4, True)
    (shell.folder / "bad.json").write_text('{"name": "x", "nodes": [{"name": "a"}]}', "utf-8")
    ran = shell("workflows", "start", "bad.json")
    assert (ran.code, "node 'a' of workflow 'x': exactly one of" in ran.sentence) == (2, True)
    assert shell("workflows", "start", "nowhere.json").code == 2
    assert shell("workflows", "signal", nobody, "x", "--value", "{").code == 2
