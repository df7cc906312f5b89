"""Every command once, on every store, in the order a person would use them; on SQLite by processes,
as a person runs them."""

import json
import signal
import subprocess

import pytest

from tests.cli.conftest import APP, Shell
from tests.worker.harness import eventually


@pytest.fixture
def whole_shell(shell: Shell) -> Shell:
    """A shell on every store; on SQLite every command is a process of its own."""
    url = shell.environment["CONVEYOR_URL"]
    return Shell(url, shell.folder) if url.startswith("sqlite") else shell


@pytest.mark.slow
@pytest.mark.unmeasured
def test_from_enqueue_to_the_result_and_the_dead_letters(whole_shell: Shell) -> None:
    shell = whole_shell
    added = shell.enqueue("add", "--args", "[40]", "--kwargs", '{"b": 2}', "--priority", "high")
    failing = shell.enqueue("tests.cli.shop.fail", "--args", '["no such person"]')
    keyed = shell.enqueue("add", "--args", "[1]", "--key", "k", "--delay", "3600")
    assert shell.enqueue("add", "--args", "[1]", "--key", "k", "--delay", "3600") == keyed
    at = shell.enqueue("remind", "--args", '["2027-01-31T09:00:00Z"]', "--at", "2020-01-01T00:00Z")
    shell.ok("worker", APP, "--burst")

    listed = shell.ok("tasks", "list", "--json").json
    assert {info["id"]: info["state"] for info in listed} == {
        added: "succeeded",
        failing: "failed",
        keyed: "scheduled",
        at: "succeeded",
    }
    only = shell.ok("tasks", "list", "--json", "--state", "failed", "--state", "queued").json
    assert [info["id"] for info in only] == [failing]
    assert len(shell.ok("tasks", "list", "--json", "--name", "tests.cli.shop.add").json) == 2
    assert len(shell.ok("tasks", "list", "--json", "--limit", "1").json) == 1
    assert shell.ok("tasks", "list", "--queue", "nowhere").out == "no such tasks\n"

    shown = shell.ok("tasks", "show", added, "--json").json
    assert (shown["args"], shown["kwargs"], shown["priority"]) == ([40], {"b": 2}, 7)
    text = shell.ok("tasks", "show", failing).out
    assert "ValueError: no such person" in text
    assert "all 2 attempt(s) used up" in text
    assert "#2 attempt 2: failed" in text
    assert "adding 40 and 2" in shell.ok("tasks", "logs", added).out
    (entry,) = shell.ok("tasks", "logs", added, "--json").json
    assert entry["execution"] == 1
    assert entry["lines"][0].endswith("adding 40 and 2")

    (dead,) = shell.ok("dead", "list", "--json").json
    assert dead["id"] == failing
    assert "ValueError: no such person" in shell.ok("dead", "list").out
    assert shell.ok("dead", "requeue", failing).out == f"{failing}  queued\n"
    assert shell.ok("tasks", "cancel", failing, "--reason", "enough").out.endswith("cancelled\n")
    assert "enough" in shell.ok("tasks", "show", failing).out
    assert shell.ok("tasks", "retry", failing, keyed).out.count("queued") == 2
    shell.ok("worker", APP, "--burst")
    assert shell.ok("dead", "discard", "--all", "--queue", "mail").out == f"{failing}  discarded\n"
    assert shell.ok("dead", "list").out == "no dead letters\n"
    assert shell.ok("doctor").out == "all invariants hold\n"
    assert shell.ok("doctor", "--json").json == []


def test_scheduled_tasks_are_moved(shell: Shell) -> None:
    task = shell.enqueue("add", "--args", "[1]", "--delay", "3600")
    at = ("--at", "2099-01-31T09:00:00Z")
    assert shell.ok("tasks", "reschedule", task, *at).out == f"{task}  rescheduled\n"
    assert "2099-01-31 09:00" in shell.ok("tasks", "show", task).out
    assert shell.ok("tasks", "run-now", task).out == f"{task}  due\n"
    shell.ok("worker", APP, "--burst")
    late = shell("tasks", "reschedule", task, "--delay", "5")
    assert late.code == 4
    assert "not scheduled" in late.err
    assert "--delay or --at" in shell("tasks", "reschedule", task).err
    assert "give one of them" in shell("tasks", "reschedule", task, "--delay", "5", *at).err


def test_queues_are_paused_and_resumed(shell: Shell) -> None:
    assert shell.ok("queues", "list").out == "no queue has had a task yet\n"
    task = shell.enqueue("add", "--args", "[1]")
    done = shell.ok("queues", "pause", "default", "--reason", "a move", "--by", "ada")
    assert done.out == "default is paused\n"
    shell.ok("worker", APP, "--burst")
    (queue,) = shell.ok("queues", "list", "--json").json
    assert (queue["name"], queue["queued"]) == ("default", 1)
    assert (queue["pause"]["reason"], queue["pause"]["by"]) == ("a move", "ada")
    assert "a move (by ada)" in shell.ok("queues", "list").out
    assert shell.ok("queues", "resume", "default").out == "default is running\n"
    shell.ok("worker", APP, "--burst")
    assert shell.ok("tasks", "show", task, "--json").json["state"] == "succeeded"


@pytest.mark.slow
def test_a_worker_is_told_what_to_do(shell: Shell) -> None:
    missing = shell("workers", "pause", "nobody")
    assert missing.code == 4
    assert "no worker that lives has the id 'nobody'" in missing.err
    worker = shell.start("worker", APP, stderr=subprocess.PIPE)
    try:
        (found,) = eventually(lambda: shell.ok("workers", "--json").json, within=30)
        told = shell.ok("workers", "pause", found["id"], "--reason", "a move", "--by", "ada")
        assert told.out == f"{found['id']}  told to pause\n"
        eventually(lambda: shell.ok("workers", "--json").json[0]["mode"] == "paused", within=20)
        assert "paused" in shell.ok("workers").out
        shell.ok("workers", "shutdown", found["id"])
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        _, said = worker.communicate()
    assert "pause, by ada: a move" in said


def test_a_worker_shows_itself_and_leaves_in_peace(shell: Shell) -> None:
    assert shell.ok("workers").out == "no worker is live\n"
    worker = shell.start("worker", APP, "--concurrency", "3", stderr=subprocess.PIPE)
    try:
        found = eventually(lambda: shell.ok("workers", "--json").json, within=30)
        assert found[0]["concurrency"] == 3
        assert "tests.cli.shop.add" in found[0]["names"]
        assert found[0]["id"] in shell.ok("workers").out
        asked = shell.ok("enqueue", APP, "add", "--args", "[1, 2]", "--wait", "30")
        assert json.loads(asked.out.splitlines()[1]) == 3
        task = shell.enqueue("sleep", "--args", "[600]")
        eventually(lambda: "a nap" in shell.ok("tasks", "show", task).out, within=30)
        assert shell.ok("tasks", "cancel", task).out == f"{task}  asked to stop\n"
        eventually(lambda: "⊘ cancelled" in shell.ok("tasks", "show", task).out, within=30)
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=30)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == 0
    assert "Traceback" not in errors
    assert shell.ok("workers", "--json").json == []


def test_up_needs_no_command_before_it(shell: Shell) -> None:
    running = shell.start("up", APP, "--port", "0", stderr=subprocess.PIPE)
    try:
        done = eventually(lambda: _waited(shell), within=30)
        assert done == 5
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0, errors
    assert "Traceback" not in errors


def _waited(shell: Shell) -> int | None:
    asked = shell("enqueue", APP, "add", "--args", "[2, 3]", "--wait", "20")
    return int(asked.out.splitlines()[1]) if asked.code == 0 else None


def test_a_keeper_alone_leaves_in_peace(shell: Shell) -> None:
    keeper = shell.start("keeper", APP, stderr=subprocess.PIPE)
    assert keeper.stderr is not None
    try:
        assert "keeping house for" in keeper.stderr.readline()
        keeper.send_signal(signal.SIGTERM)
        keeper.communicate(timeout=30)
    finally:
        keeper.kill()
        keeper.wait()
    assert keeper.returncode == 0


def test_migrate_says_what_it_did_and_may_be_repeated(shell: Shell) -> None:
    assert shell.ok("migrate").out
    assert shell.ok("migrate").out == "the schema is current, nothing to do\n"
