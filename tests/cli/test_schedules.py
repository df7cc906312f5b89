"""`conveyor schedules`, on every store."""

from tests.cli.conftest import APP, Shell


def create(shell: Shell, *words: str) -> None:
    url = shell.environment["CONVEYOR_URL"]
    done = shell.ok("schedules", "create", *words, "--url", url)
    assert "fires next at" in done.out


def test_a_schedule_from_its_making_to_its_end(shell: Shell) -> None:
    assert shell.ok("schedules", "list").out == "there are no schedules\n"
    words = ["--args", "[40]", "--kwargs", '{"b": 2}', "--cron", "30 2 * * *"]
    words += ["--tz", "Europe/Berlin", "--overlap", "skip", "--priority", "high"]
    create(shell, "nightly", APP, "add", *words)
    create(shell, "often", APP, "tests.cli.shop.fail", "--args", '["x"]', "--every", "3600")

    listed = shell.ok("schedules", "list", "--json").json
    assert [info["name"] for info in listed] == ["nightly", "often"]
    assert isinstance(listed[0]["next_at"], float)
    shown = shell.ok("schedules", "show", "nightly", "--json").json
    assert (shown["cron"], shown["tz"], shown["overlap"]) == ("30 2 * * *", "Europe/Berlin", "skip")
    assert (shown["args"], shown["kwargs"], shown["priority"]) == ([40], {"b": 2}, 7)
    text = shell.ok("schedules", "show", "nightly").out
    assert "tests.cli.shop.add(40, b=2)" in text
    assert "30 2 * * * Europe/Berlin" in shell.ok("schedules", "list").out

    assert "fires next" in shell.ok("schedules", "edit", "often", "--cron", "@daily").out
    assert shell.ok("schedules", "show", "often", "--json").json["every"] is None
    paused = shell.ok("schedules", "pause", "often", "--reason", "a move", "--by", "ada")
    assert paused.out == "often is paused\n"
    assert "paused by ada: a move" in shell.ok("schedules", "list").out
    until = shell.ok("schedules", "pause", "often", "--until", "2099-01-31T09:00:00+01:00")
    assert until.out == "often is paused until 2099-01-31 08:00:00 (UTC)\n"
    assert "fires next" in shell.ok("schedules", "resume", "often").out

    task = shell.ok("schedules", "run", "nightly").out.strip()
    shell.ok("worker", APP, "--burst")
    assert shell.ok("tasks", "show", task, "--json").json["state"] == "succeeded"
    assert shell.ok("schedules", "delete", "often").out == "often is deleted\n"
    assert [info["name"] for info in shell.ok("schedules", "list", "--json").json] == ["nightly"]


def test_previews_what_is_not_there_yet(inner_shell: Shell) -> None:
    done = inner_shell.ok("schedules", "preview", "--cron", "0 9 * * *", "--tz", "Asia/Tokyo")
    lines = done.out.splitlines()
    assert len(lines) == 6
    assert all(line.endswith("09:00:00 +0900") for line in lines[1:])
    found = inner_shell.ok("schedules", "preview", "--every", "60", "--count", "3", "--json").json
    assert [fire["at"] % 60 for fire in found] == [0, 0, 0]
    create(inner_shell, "s", APP, "add", "--args", "[1]", "--cron", "@hourly")
    assert len(inner_shell.ok("schedules", "preview", "s", "--json").json) == 5


def test_what_is_wrong_is_one_sentence(inner_shell: Shell) -> None:
    def wrong(code: int, part: str, *words: str) -> None:
        ran = inner_shell("schedules", *words)
        assert ran.code == code
        assert part in ran.sentence

    create(inner_shell, "nightly", APP, "add", "--args", "[1]", "--cron", "@daily")
    wrong(4, "did you mean nightly", "show", "nightl")
    wrong(4, "no schedule is named", "delete", "x")
    wrong(2, "never fires", "preview", "--cron", "0 0 30 2 *")
    wrong(2, "has 6 fields", "preview", "--cron", "0 0 9 * * *")
    wrong(2, "IANA", "preview", "--cron", "@daily", "--tz", "Mars/Phobos")
    wrong(2, "exactly one", "preview")
    wrong(2, "either the NAME", "preview", "nightly", "--every", "3")
    wrong(2, "already", "create", "nightly", APP, "add", "--args", "[1]", "--cron", "@daily")
    wrong(2, "exactly one", "create", "x", APP, "add", "--args", "[1]")
    wrong(2, "no task is named", "create", "x", APP, "ad", "--cron", "@daily")
    wrong(2, "add", "create", "x", APP, "add", "--cron", "@daily")
    wrong(2, "overlap='maybe'", "edit", "nightly", "--overlap", "maybe")
    wrong(2, "nothing to change", "edit", "nightly")
    wrong(2, "no time zone", "pause", "nightly", "--until", "2099-01-31T09:00:00")
