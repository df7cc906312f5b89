"""`conveyor backup`: a checked copy of a SQLite file; of servers, which tool makes one."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from conveyor import backups
from tests.cli.conftest import APP, Inside, Shell


def test_a_store_is_copied_and_comes_back(inner_shell: Shell, tmp_path: Path) -> None:
    shell = inner_shell
    assert "nothing to back up" in shell("backup", "x.db").sentence
    task = shell.enqueue("add", "--args", "[40]")
    made = shell.ok("backup", "monday.db").out
    assert made.startswith("monday.db: ")
    assert "bytes, checked, sha256 " in made
    digest = made.split()[-1]
    assert (tmp_path / "monday.db.sha256").read_text() == f"{digest}  monday.db\n"
    assert shell.ok("backup", "monday.db", "--check").out == f"monday.db: intact, sha256 {digest}\n"
    assert "there already" in shell("backup", "monday.db").sentence

    shell.ok("worker", APP, "--burst")
    (tmp_path / "monday.db").replace(tmp_path / "restored.db")
    restored = "sqlite:///restored.db"
    (info,) = shell.ok("tasks", "list", "--json", "--url", restored).json
    assert (info["id"], info["state"]) == (task, "queued")
    assert shell.ok("doctor", "--url", restored).out == "all invariants hold\n"


def test_a_folder_and_what_goes_wrong(inside: Inside, tmp_path: Path) -> None:
    url = ("--url", "sqlite:///conveyor.db")
    inside("migrate", *url)
    (tmp_path / "copies").mkdir()
    name = inside("backup", "copies", *url).out.partition(":")[0]
    copied = tmp_path / name
    assert copied.parent.name == "copies"
    assert sorted(one.name for one in copied.parent.iterdir()) == [
        copied.name,
        f"{copied.name}.sha256",
    ]
    copied.write_bytes(copied.read_bytes()[:-1])
    for words, code, told in (
        ((name, "--check"), 1, "is not what was written"),
        (("away/x.db", *url), 1, "was not copied to away"),
        (("missing.db", "--check"), 1, "cannot be read"),
        (("x.db", "--url", "sqlite://"), 2, "in memory"),
        (("x.db", "--url", "postgresql://ada:pw@db/x"), 2, "pg_dump --format=custom --file=x.db"),
        (("x.db", "--url", "redis://db?durability=fast"), 2, "redis-cli -u redis://db --rdb x.db"),
        (("x.db", "--url", "mysql://db"), 2, "unknown scheme"),
    ):
        ran = inside("backup", *words)
        assert ran.code == code, ran
        assert told in ran.sentence, ran
        assert "pw" not in ran.err.replace("pg_dump", "")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE t (x)")
    return path


def told(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir()}


@pytest.mark.parametrize("name", ["copy.db", "copy.db.sha256", ".copy.db.partial"])
def test_what_others_made_stays(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"of another process")
    before = told(tmp_path)
    with pytest.raises(backups.CopyFailed, match=rf"{name}.* already|exists"):
        backups.copy_database(source, tmp_path / "copy.db")
    assert told(tmp_path) == before


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("taken", ["copy.db", "copy.db.sha256"])
def test_a_name_that_is_taken_meanwhile_stays_taken(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, taken: str, links: bool
) -> None:
    def others_take_it() -> bool:
        (tmp_path / taken).write_bytes(b"of another process")
        return False

    if not links:
        monkeypatch.setattr(os, "link", without_links)
    with pytest.raises(backups.CopyFailed, match="exists"):
        backups.copy_database(source, tmp_path / "copy.db", others_take_it)
    assert told(tmp_path) == {source.name: source.read_bytes(), taken: b"of another process"}


def without_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, "this file system has none")


def test_a_file_system_without_links_will_do(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", without_links)
    digest = backups.copy_database(source, tmp_path / "copy.db")
    assert backups.check(tmp_path / "copy.db") == digest
    assert set(told(tmp_path)) == {source.name, "copy.db", "copy.db.sha256"}


def test_who_is_interrupted_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backups.copy_database(source, tmp_path / "copy.db", interrupt)
    assert set(told(tmp_path)) == {source.name}
