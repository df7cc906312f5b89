"""Lists and details go by indexes, on both databases: no question reads the whole archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any

import pytest
from sqlalchemy import event, text

from benchmarks.history import QUESTIONS, fill
from conveyor_console.analytics import queries as analytics
from conveyor_console.audit.models import AuditEntry
from conveyor_console.audit_log.queries import entries
from conveyor_console.audit_log.searching import SEARCH
from conveyor_console.db import schema
from conveyor_console.db.engine import Database
from conveyor_console.history import letters as dead_letters
from conveyor_console.history.fields import FIELDS
from conveyor_console.history.ordering import FINISHED, in_order
from conveyor_console.history.queries import finished, whole
from conveyor_console.history.retention import prune
from conveyor_console.kit.filters import conditions
from conveyor_console.kit.sorting import Order, Place, cursor_in
from tests.console.conftest import copied
from tests.servers.postgres import run_in_own_loop

# The archive is made once for each database: one process runs them all.
pytestmark = [pytest.mark.xdist_group("console-archive"), pytest.mark.unmeasured]
TASKS = 20_000
NOW = 1_795_000_000.0


def fill_archive(url: str) -> None:
    """Make the tables and put many tasks into them."""

    async def run() -> None:
        made = Database(url)
        try:
            await schema.upgrade(made)
            await fill(made, TASKS, NOW)
            async with made.writing() as session:
                await session.execute(text("ANALYZE"))
        finally:
            await made.close()

    run_in_own_loop(run())


@pytest.fixture
def archive_url(request: pytest.FixtureRequest, database_kind: str) -> Iterator[str]:
    """A copy of the archive."""
    yield from copied(request, "console_archive", fill_archive)


@pytest.fixture
async def database(archive_url: str) -> AsyncIterator[Database]:
    made = Database(archive_url)
    yield made
    await made.close()


async def plans(database: Database, ask: Any) -> list[str]:
    """Run something and return the plans of its statements."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "DELETE", "WITH")):
            seen.append((statement, parameters))

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        async with database.reading() as session:
            await ask(session)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    found = []
    async with database.reading() as session:
        connection = await session.connection()
        for statement, parameters in seen:
            rows = await connection.exec_driver_sql(f"{explain} {statement}", parameters)
            found.append(statement + "\n" + "\n".join(str(row[-1]) for row in rows))
    return found


def check(found: list[str], *, tables: tuple[str, ...] = ("console_task",)) -> None:
    """No table is read from one end to the other."""
    assert found
    for plan in found:
        for line in plan.splitlines():
            for table in tables:
                assert f"Seq Scan on {table}" not in line, plan
                if line.startswith(f"SCAN {table}"):
                    assert "INDEX" in line, plan


async def test_lists_of_tasks(database: Database) -> None:
    for q in (*QUESTIONS.values(), "state:failed,cancelled", "key:k", "id:x"):
        for before in (None, "01a21b46-187d-7315-b14b-00130514d996"):
            ask = partial(finished, wanted=conditions(q, FIELDS, NOW), before=before, limit=50)
            check(await plans(database, ask))


async def test_without_statistics_too(database: Database) -> None:
    """SQLite takes any index that has the columns, unless it is kept from it."""
    if database.is_sqlite:
        async with database.writing() as session:
            await session.execute(text("DELETE FROM sqlite_stat1"))
        await database.engine.dispose()
    for q, index in (("key:k", "ix_console_task_key"), ("workflow:w", "ix_console_task_flow")):
        ask = partial(finished, wanted=conditions(q, FIELDS, NOW), before=None, limit=50)
        assert all(index in plan for plan in await plans(database, ask))
    wanted = conditions("state:failed task:shop.charge", FIELDS, NOW)
    ask = partial(
        in_order,
        source=FINISHED,
        wanted=wanted,
        order=Order("finished", True),
        cursor=None,
        limit=50,
    )
    assert all("ix_console_task_finished_at" in plan for plan in await plans(database, ask))


async def test_lists_in_other_orders(database: Database) -> None:
    tables = ("console_task", "dead_letter_queue")
    for source, keys in ((FINISHED, ("finished",)), (dead_letters.LETTERS, ("id", "died"))):
        for key, down in product(keys, (False, True)):
            order, mark = Order(key, down), str(NOW - 1_000)
            for cursor in (None, cursor_in(order, Place(mark, "01a21b46-187d-7315-b14b"))):
                for q in ("", "task:x state:failed", "error:nothing")[
                    : 3 if source is FINISHED else 1
                ]:
                    wanted = conditions(q, dead_letters.FIELDS, NOW)
                    if source is FINISHED:
                        wanted = conditions(q, FIELDS, NOW)
                    ask = partial(
                        in_order,
                        source=source,
                        wanted=wanted,
                        order=order,
                        cursor=cursor,
                        limit=50,
                    )
                    check(await plans(database, ask), tables=tables)


async def test_an_order_says_everything_once(database: Database) -> None:
    seen: list[tuple[float, str]] = []
    cursor: str | None = None
    wanted = conditions("state:failed task:mail.*", FIELDS, NOW)
    while True:
        async with database.reading() as session:
            part = await in_order(
                session, FINISHED, wanted, Order("finished", True), cursor=cursor, limit=200
            )
        assert len(part.rows) <= 200
        seen += [(one.finished_at, one.id) for one in part.rows]
        if part.floor is None:
            break
        cursor = part.floor
    assert seen == sorted(set(seen), reverse=True)
    async with database.reading() as session:
        number = await session.scalar(
            text("SELECT count(*) FROM console_task WHERE state = 'failed' AND name LIKE 'mail.%'")
        )
    assert len(seen) == number


async def test_the_audit_log(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor_console.audit_log.queries.WINDOW", 100)
    async with database.writing() as session:
        session.add_all(audit_entry(number) for number in range(3_000))
    async with database.writing() as session:
        await session.execute(text("ANALYZE"))
    exact = ("user:u7", "by:nobody", "ip:::1", "action:x.y", "target:t:7", "request:r7")
    words = (
        "",
        "outcome:refused",
        "nothing",
        "key:k status:403",
        "-by:nobody",
        "age<1h at>2026-11-26",
    )
    for q, down in product((*exact, *words, *(f"{q} nothing" for q in exact)), (False, True)):
        wanted = SEARCH.read(q, datetime.fromtimestamp(NOW, UTC))
        order = Order("at", down)
        for place in (None, Place("", f"{1_000:036}")):
            ask = partial(entries, wanted=wanted, order=order, place=place, limit=50)
            found = await plans(database, ask)
            check(found, tables=("console_audit",))
            if place is None and q.split(" ", maxsplit=1)[0] in exact:
                column = SEARCH.fields[q.partition(":")[0]].attribute
                assert all(f"ix_console_audit_{column}" in plan for plan in found), found


def audit_entry(number: int) -> AuditEntry:
    """One of many, each by somebody else."""
    return AuditEntry(
        id=f"{number:036}",
        at=datetime.fromtimestamp(NOW - 3_000 + number, UTC),
        user_id=f"u{number}",
        actor=f"a{number}",
        action=f"x.{number}",
        target=f"t:{number}",
        outcome="refused" if number % 100 == 0 else "done",
        detail="words",
        ip=f"10.0.0.{number}",
        request_id=f"r{number}",
    )


async def test_details(database: Database) -> None:
    tables = ("console_task", "console_task_execution", "console_task_log", "console_task_result")
    check(await plans(database, lambda session: whole(session, "x")), tables=tables)


async def test_dead_letters(database: Database) -> None:
    for q in ("", "fingerprint:x"):
        ask = partial(
            dead_letters.letters,
            wanted=conditions(q, dead_letters.FIELDS, NOW),
            before=None,
            limit=50,
        )
        check(await plans(database, ask), tables=("dead_letter_queue",))


async def test_analytics_reads_sums_only(database: Database) -> None:
    minute = int(NOW // 60)
    asked = analytics.Range(minute - 120, minute, 1)
    found = await plans(database, lambda s: analytics.by(s, asked, analytics.bucket_key(asked)))
    check(found, tables=("console_rollup", "console_histogram"))
    assert not any("console_task" in plan for plan in found)


async def test_retention(database: Database) -> None:
    found = await plans(database, lambda _: prune(database, NOW, 30))
    check([plan for plan in found if plan.startswith("SELECT")])


async def test_a_page_reads_a_window_at_most(database: Database) -> None:
    """What is found nowhere is looked for in the newest rows; the answer says where to go on."""
    wanted = conditions("args.user_id:none", FIELDS, NOW)
    async with database.reading() as session:
        first = await finished(session, wanted, None, 50)
        assert (list(first.rows), first.cut) == ([], True)
        second = await finished(session, wanted, first.floor, 50)
        assert (list(second.rows), second.cut) == ([], True)
        third = await finished(session, wanted, second.floor, 50)
        assert (list(third.rows), third.cut, third.floor) == ([], False, None)
