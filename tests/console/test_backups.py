"""Backups of SQLite files: whole or not there, counted, checked, for administrators only."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor.maintenance import store_file
from conveyor_console.app import create_app
from conveyor_console.auth.passwords import Passwords
from conveyor_console.console import Console
from conveyor_console.kit.problems import Problem
from conveyor_console.settings import Settings
from conveyor_console.system import copying
from conveyor_console.system.backing_up import Backups, databases
from tests.console.conftest import QUICK, SECRET, Api, TestClock

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def settings(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"backup_folder": folder, "backups_kept": 2})


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


async def test_a_backup_is_made_checked_and_deleted(
    admin: Api, queue: Conveyor, folder: Path
) -> None:
    task = await queue.definition("shop.greet").enqueue("Ada")
    made = await admin.call("POST", "/system/backups", 201)
    assert made["elsewhere"] == made["deleted"] == []
    console, tasks = made["items"]
    assert console["name"] == "20261127T120000.000000Z-console.db"
    assert tasks["name"] == "20261127T120000.000000Z-queue.db"
    assert (await admin.call("GET", "/system/backups"))["items"] == [tasks, console]
    first = await admin.call("GET", "/system/backups?limit=1")
    rest = await admin.call("GET", f"/system/backups?cursor={first['next_cursor']}")
    assert [first["items"], rest["items"]] == [[tasks], [console]]
    assert await admin.call("GET", f"/system/backups/{tasks['name']}") == {**tasks, "intact": True}

    restored = Conveyor(f"sqlite:///{(folder / tasks['name']).as_posix()}")
    async with restored:
        assert (await restored.handle(task.id).info()).args == ("Ada",)
    (folder / console["name"]).write_bytes(b"something else")
    seen = await admin.call("GET", f"/system/backups/{console['name']}")
    assert not seen["intact"]

    await admin.call("DELETE", f"/system/backups/{console['name']}", 204)
    await admin.call("GET", f"/system/backups/{console['name']}", 404)
    await admin.call("DELETE", f"/system/backups/{console['name']}", 404)
    assert not [name for name in names_in(folder) if name.startswith(console["name"])]
    entries = (await admin.call("GET", "/audit"))["items"]
    actions = {(one["action"], one["target"]) for one in entries}
    assert ("system.make_backup", "") in actions
    assert ("system.delete_backup", f"backup:{console['name']}") in actions


async def test_the_newest_stay(admin: Api, clock: TestClock, folder: Path) -> None:
    for _ in range(2):
        await admin.call("POST", "/system/backups", 201)
        clock.advance(1)
    third = await admin.call("POST", "/system/backups", 201)
    assert len(third["deleted"]) == 2
    left = names_in(folder)
    assert len(left) == 8
    assert {name.removesuffix(".sha256") for name in left} == set(left[::2])
    clock.advance(1)
    again = await admin.call(
        "POST", "/system/backups", 201, headers={"Idempotency-Key": (key := "nightly")}
    )
    assert again == await admin.call(
        "POST", "/system/backups", 201, headers={"Idempotency-Key": key}
    )


def fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "secret.db").touch()
    (folder.parent / "20261127T120000.000000Z-queue.db").touch()


async def test_names_lead_nowhere_else(admin: Api, folder: Path) -> None:
    fill(folder)
    for name in ("secret.db", "..%2F20261127T120000.000000Z-queue.db", "x" * 200, "%00"):
        for method in ("GET", "DELETE"):
            answer = await admin.http.request(method, f"/api/v1/system/backups/{name}")
            assert answer.status_code in {404, 422}, answer.text
    assert (await admin.call("GET", "/system/backups"))["items"] == []


async def test_what_fails_is_said(admin: Api, operator: Api, tmp_path: Path) -> None:
    await operator.call("POST", "/system/backups", 403)
    in_the_way(tmp_path / "backups")
    problem = await admin.call("POST", "/system/backups", 503)
    assert "no backup was made: " in problem["detail"]


def in_the_way(path: Path) -> None:
    path.write_text("a file, where a folder should be")


def test_what_fails_leaves_nothing(folder: Path, tmp_path: Path, migrated_url: str) -> None:
    good, bad = Path(migrated_url.removeprefix("sqlite:///")), tmp_path / "bad.db"
    with closing(sqlite3.connect(bad)) as db, db:
        db.execute("CREATE TABLE t (x)")
        db.executemany("INSERT INTO t VALUES (?)", [("y" * 4_000,)] * 50)
    with bad.open("r+b") as file:
        file.seek(3 * 4_096)
        file.write(b"\xff" * 4_096 * 5)
    for source, stop, words in (
        (bad, False, r"damaged|malformed"),
        (good, True, "the console is ending"),
        (tmp_path / "missing.db", False, "missing"),
    ):
        with pytest.raises(copying.CopyFailed, match=words):
            copying.copy(source, folder, copying.name_of("queue", NOW), [stop].copy().pop)
    assert names_in(folder) == []


@contextmanager
def writing_all_the_time(path: Path) -> Iterator[None]:
    """Another connection that moves money: the sum over both accounts is always 100."""
    over, began = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            amount = 0
            while not over.is_set():
                amount = (amount + 7) % 100
                db.execute("BEGIN IMMEDIATE")
                db.execute("UPDATE account SET held = ? WHERE id = 1", (amount,))
                db.execute("UPDATE account SET held = ? WHERE id = 5000", (100 - amount,))
                db.execute("COMMIT")
                began.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert began.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join(10)


def test_a_copy_is_of_one_moment_while_others_write(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "bank.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, held INT, filler TEXT)")
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO account VALUES (?, 0, ?)", [(n, "x" * 3_000) for n in range(6_000)]
        )
        db.execute("UPDATE account SET held = 100 WHERE id = 1")
        db.execute("COMMIT")
    with writing_all_the_time(path):
        made = copying.copy(path, folder, copying.name_of("queue", NOW), lambda: False)
    assert copying.is_intact(folder, made)
    assert [one.name for one in folder.iterdir() if "partial" in one.name] == []
    with closing(sqlite3.connect(folder / made.name)) as copied:
        assert copied.execute("SELECT sum(held), count(*) FROM account").fetchone() == (100, 6_000)
        assert copied.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_half_files_of_the_dead_go(folder: Path) -> None:
    folder.mkdir()
    partial = folder / f".{copying.name_of('queue', NOW)}.partial"
    partial.touch()
    copying.clear(folder, datetime.now(UTC) - timedelta(days=1))
    assert partial.exists()
    copying.clear(folder, datetime.now(UTC) + timedelta(days=1))
    assert not partial.exists()


async def test_one_file_for_both_is_copied_once(tmp_path: Path, clock: TestClock) -> None:
    url = f"sqlite:///{(tmp_path / 'conveyor.db').as_posix()}"
    settings = Settings.model_validate(
        {"secret_key": SECRET, "backup_folder": str(tmp_path / "backups")}
    )
    app = create_app(Conveyor(url), settings, clock=clock, passwords=Passwords(QUICK))
    async with app.router.lifespan_context(app):
        made = await app.state.console.part(Backups).make()
    assert [one.name for one in made.copies] == ["20261127T120000.000000Z-conveyor.db"]


async def test_servers_are_backed_up_with_their_own_tools(
    settings: Settings, clock: TestClock
) -> None:
    assert store_file(Conveyor("redis://localhost/0")) is None
    assert store_file(Conveyor("sqlite:///a%20b.db?synchronous=normal")) == Path("a b.db")
    for url, words in (
        ("redis://localhost/0", "BGSAVE"),
        ("postgresql://localhost/x", "pg_dump"),
        ("sqlite://", "in memory"),
    ):
        unopened = Console(Conveyor(url), settings, clock, lambda: "id", Passwords(QUICK))
        files, (sentence,) = databases(unopened)
        assert list(files) == ["console"]
        assert words in sentence
        await unopened.close()
    nowhere = settings.model_copy(update={"database_url": "postgresql://localhost/x"})
    console = Console(Conveyor("redis://localhost/0"), nowhere, clock, str, Passwords(QUICK))
    with pytest.raises(Problem, match=r"console's database is on PostgreSQL.*queue's.*BGSAVE"):
        await Backups(console).make()
    await console.close()


async def test_without_a_folder_it_says_what_to_set(app: FastAPI) -> None:
    console: Console = app.state.console
    console.settings = console.settings.model_copy(update={"backup_folder": None})
    with pytest.raises(Problem, match="CONVEYOR_BACKUP_FOLDER"):
        await console.part(Backups).make()
