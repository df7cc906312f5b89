"""Bad input gives one clear sentence on stderr, an exit code for scripts, and nothing half done."""

from pathlib import Path

import pytest

from tests.cli.conftest import APP, Inside, Shell
from tests.servers import PostgresServer

BAD_INPUT, UNAVAILABLE, NOT_FOUND = 2, 3, 4
NOBODY = "01890000-0000-7000-8000-000000000000"

MISUSED = {
    "--nope": "no such option: --nope; see conveyor --help",
    "nonsense": "no such command 'nonsense'; see conveyor --help",
    f"enqueue {APP} add --nope": "no such option: --nope; see conveyor enqueue --help",
    "enqueue": "missing argument 'MODULE:APP'; see conveyor enqueue --help",
    f"worker {APP} --concurrency 0": "invalid value for '--concurrency': ",
    f"worker {APP} --processes many": "invalid value for '--processes': ",
    "tasks list --limit 5000": "invalid value for '--limit': ",
    "tasks list --state tired": "'tired' is not one of 'blocked', 'scheduled', 'queued'",
    "tasks list --queue": "option '--queue' requires an argument; see conveyor --help",
    f"enqueue {APP} ad": "no task is named 'ad'; did you mean tests.cli.shop.add?",
    f"enqueue {APP} zzz": "no task is named 'zzz'; known here: tests.cli.shop.add, ",
    f"enqueue {APP} add --args [1": "--args is not JSON: ",
    f"enqueue {APP} add --args {{}}": "--args must be a JSON array, e.g. '[1, \"a\"]'; got '{}'",
    f"enqueue {APP} add --kwargs []": "--kwargs must be a JSON object, e.g. '{}'; got '[]'",
    f"enqueue {APP} add --args [1,2,3]": "too many positional arguments; nothing was enqueued",
    f"enqueue {APP} add": "missing a required argument: 'a'; nothing was enqueued",
    f'enqueue {APP} add --args ["x"]': "Expected `int`, got `str`",
    f'enqueue {APP} add --args [1] --kwargs {{"c":1}}': "unexpected keyword argument 'c'",
    f'enqueue {APP} remind --args ["soon"]': "Invalid RFC3339 encoded datetime",
    f"enqueue {APP} add --args [1] --at 2030-01-01T00:00:00": "has no time zone: ISO 8601 with a",
    f"enqueue {APP} add --args [1] --at soon": "--at 'soon' is not a time: ISO 8601",
    f"enqueue {APP} add --args [1] --delay -1": "delay=-1.0: at least 0 and at most one year",
    f"enqueue {APP} add --args [1] --at 2030-01-01T00:00Z --delay 1": "both say when to start",
    f"enqueue {APP} add --args [1] --priority 12": "priority=12: a whole number from 0 to 9",
    f"enqueue {APP} add --args [1] --priority urgent": "priority='urgent': a whole number",
    f"enqueue {APP} add --args [1] --queue a/b": "queue='a/b': up to 100 letters",
    f"enqueue {APP} add --args [1] --max-attempts 0": "max_attempts=0: a whole number from 1",
    f"enqueue {APP} add --args [1] --timeout 0": "timeout=0.0: above 0 and at most one year",
    "enqueue tests.cli.shop add": "'tests.cli.shop' is not MODULE:APP, e.g. shop.tasks:app",
    "enqueue tests.cli.shop: add": "'tests.cli.shop:' is not MODULE:APP",
    "enqueue no.such.module:app add": "no module named 'no' here",
    "enqueue tests.cli.broken:app add": "failed: RuntimeError: the settings are missing",
    "enqueue tests.cli.shop:nothing add": "module 'tests.cli.shop' has no 'nothing'",
    "enqueue tests.cli.shop:number add": "is of type int, not a Conveyor app",
    "enqueue tests.cli.leaving:app add": "importing 'tests.cli.leaving' ended with sys.exit(3)",
    "keeper tests.cli.leaving:app": "importing 'tests.cli.leaving' ended with sys.exit(3)",
    f"worker {APP} --queues ,": "queue='': up to 100 letters",
    f"enqueue {APP} add --args [1] --wait nan": "--wait=nan: at least 0",
    "doctor --url=": "broker URL '' has an unknown scheme ''",
    "dead requeue": "give the ids of dead letters, or --all",
    f"dead discard --all {NOBODY}": "give the ids of dead letters, or --all",
    "queues pause a/b": "queue='a/b': up to 100 letters",
    "doctor --url mysql://u:secret@h/d": "has an unknown scheme 'mysql'; use sqlite:///file.db",
    "doctor --url nonsense": "has an unknown scheme ''",
    "doctor --url sqlite:///x.db?colour=red": "colour",
    "doctor --url redis://127.0.0.1:1?colour=red": "colour",
    "doctor --url postgresql://h/d?colour=red": "colour",
}


@pytest.mark.parametrize(("command", "sentence"), MISUSED.items(), ids=MISUSED)
def test_misuse_is_explained_in_one_sentence(
    inside: Inside, tmp_path: Path, command: str, sentence: str
) -> None:
    ran = inside(*command.split())
    assert ran.code == BAD_INPUT, ran
    assert sentence in ran.sentence
    assert "secret" not in ran.err
    assert not list(tmp_path.iterdir()), "nothing half done"


def test_misuse_is_explained_as_well_by_the_real_command(plain_shell: Shell) -> None:
    ran = plain_shell("enqueue", APP, "ad")
    assert ran.code == BAD_INPUT
    assert ran.sentence == "no task is named 'ad'; did you mean tests.cli.shop.add?"


@pytest.mark.parametrize(
    "command", [f"show {NOBODY}", "show 123", f"logs {NOBODY}", f"retry {NOBODY}", "cancel 12 34"]
)
def test_an_unknown_id_has_a_code_of_its_own(shell: Shell, command: str) -> None:
    ran = shell("tasks", *command.split())
    assert ran.code == NOT_FOUND
    assert command.rsplit(maxsplit=1)[-1] in ran.sentence


@pytest.mark.parametrize("command", ["requeue", "discard"])
def test_a_living_task_is_no_dead_letter(shell: Shell, command: str) -> None:
    task = shell.enqueue("add", "--args", "[1]")
    ran = shell("dead", command, task)
    assert ran.code == NOT_FOUND
    assert f"1 task(s) unchanged, they do not exist or are not dead letters: {task}" in ran.sentence


def test_a_task_that_has_ended_cannot_be_cancelled(shell: Shell) -> None:
    task = shell.enqueue("add", "--args", "[1]")
    assert shell("worker", APP, "--burst").code == 0
    ran = shell("tasks", "cancel", task)
    assert ran.code == NOT_FOUND
    assert ran.out == f"{task}  succeeded\n"
    assert ran.err == f"error: 1 task(s) had ended before they could be stopped: {task}\n"


def test_a_queue_that_nobody_knows_may_be_mistyped(shell: Shell) -> None:
    shell.enqueue("add", "--args", "[1]", "--queue", "media")
    ran = shell("queues", "pause", "meida")
    assert (ran.code, ran.out) == (0, "meida is paused\n")
    assert ran.err == "note: no task has been in a queue 'meida' yet; did you mean media?\n"
    assert shell("queues", "pause", "media").err == ""


def test_bytes_that_are_no_text_are_refused(plain_shell: Shell) -> None:
    ran = plain_shell("queues", "pause", "default", "--reason", "\udcff")
    assert ran.code == BAD_INPUT
    assert ran.sentence == "the command line holds bytes that are not UTF-8"


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@127.0.0.1:1/0",
        "postgresql://user:hunter2@127.0.0.1:1/db",
        "sqlite:////nowhere/at/all.db",
    ],
    ids=["redis", "postgres", "sqlite"],
)
@pytest.mark.parametrize("command", ["tasks list", "migrate", f"enqueue {APP} add --args [1]"])
def test_a_store_that_is_not_there(inside: Inside, url: str, command: str) -> None:
    ran = inside(*command.split(), "--url", url)
    assert ran.code == UNAVAILABLE, ran
    assert "127.0.0.1:1" in ran.sentence or "/nowhere/at" in ran.sentence
    assert "hunter2" not in ran.err


@pytest.mark.parametrize("command", ["worker", "keeper", "up"])
def test_what_stays_says_at_the_start_that_the_store_is_not_there(
    plain_shell: Shell, command: str
) -> None:
    ran = plain_shell(command, APP, "--url", "redis://user:hunter2@127.0.0.1:1/0")
    assert ran.code == UNAVAILABLE
    assert "127.0.0.1:1 cannot be reached" in ran.sentence
    assert "hunter2" not in ran.err


@pytest.mark.parametrize("target", ["nosuch:app", "tests.cli.shop:nothing", "tests.cli.broken:app"])
def test_a_worker_without_an_app_does_not_start(plain_shell: Shell, target: str) -> None:
    ran = plain_shell("worker", target)
    assert ran.code == BAD_INPUT
    assert target.partition(":")[0] in ran.sentence


def test_arguments_above_the_limit_are_refused(shell: Shell) -> None:
    # A word of the command line holds at most 128 KiB; four characters become nine bytes here.
    ran = shell("enqueue", APP, "swallow", "--args", f"[[{'1e9,' * 32_000}1]]")
    assert ran.code == BAD_INPUT
    assert "take 288,0" in ran.sentence
    assert "the limit is 262,144; store the data elsewhere and pass a reference" in ran.sentence
    assert shell.ok("tasks", "list", "--json").json == []


def test_postgres_that_was_not_migrated_says_so(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create_database()
    try:
        shell = Shell(url, tmp_path)
        for words in (["tasks", "list"], ["enqueue", APP, "add", "--args", "[1]"]):
            ran = shell(*words)
            assert ran.code == UNAVAILABLE
            assert "conveyor migrate" in ran.sentence
        worker = shell("worker", APP)
        assert worker.code == UNAVAILABLE
        assert "conveyor migrate" in worker.err
        assert shell.ok("migrate").out != "the schema is current, nothing to do\n"
        shell.enqueue("add", "--args", "[1]")
    finally:
        postgres.drop_database(url)


def test_no_answer_within_the_wait_is_an_exit_code(shell: Shell) -> None:
    ran = shell("enqueue", APP, "add", "--args", "[1]", "--wait", "0.1")
    task, *_ = ran.out.splitlines()
    assert ran.code == 1
    assert ran.err == f"error: task {task} was not finished within 0.1 s; it goes on\n"
