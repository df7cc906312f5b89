"""The PostgreSQL broker without a server: what its URL says, and what its errors say."""

import asyncio
import gc

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.brokers.postgres.broker import PostgresBroker
from conveyor.brokers.postgres.connection import ReplyLost, connect, translated
from conveyor.brokers.postgres.options import locate
from conveyor.brokers.postgres.rows import known_form, pack, tasks_of
from conveyor.brokers.postgres.statements import script, statements
from conveyor.core.errors import BrokerFull, BrokerUnavailable, InvalidURL, SchemaMismatch
from conveyor.core.task import Task
from conveyor.system import new_id

URL = "postgresql://ada:s3cret@db.example:6432/jobs"


def test_a_url_says_where() -> None:
    found = locate(f"{URL}?namespace=mine&timeout=2.5&sslmode=require")
    assert (found.namespace, found.timeout) == ("mine", 2.5)
    assert found.where == "PostgreSQL at db.example:6432"
    assert found.dsn == f"{URL}?sslmode=require"
    assert found.shown == (
        "postgresql://ada:***@db.example:6432/jobs?namespace=mine&timeout=2.5&sslmode=require"
    )


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql:///jobs", "localhost:5432"),
        ("postgres://db", "db:5432"),
        ("postgresql+asyncpg://a@[::1]:5433/jobs", "[::1]:5433"),
        ("postgresql://a@one:1,two/jobs", "one:1,two:5432"),
        ("postgresql:///jobs?host=/run/postgresql&port=6", "/run/postgresql:6"),
    ],
)
def test_messages_name_the_server(url: str, where: str) -> None:
    found = locate(url)
    assert found.where == f"PostgreSQL at {where}"
    assert found.dsn.startswith("postgresql://")


@pytest.mark.parametrize("secret", ["password", "sslpassword"])
def test_a_password_among_the_options_is_not_shown(secret: str) -> None:
    url = f"postgresql://ada@db/jobs?{secret}=s3cret&namespace=mine"
    assert "s3cret" in locate(url).dsn
    broker = PostgresBroker(url)
    assert "s3cret" not in broker.url
    assert f"{secret}=***" in broker.url
    with pytest.raises(InvalidURL) as caught:
        PostgresBroker(f"{url}&nonsense=1")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("nonsense=1", "namespace, timeout"),
        ("namespace=Mine", "small letters"),
        ("namespace=pg_mine", "small letters"),
        ("namespace=a;drop", "small letters"),
        ("namespace=", "small letters"),
        ("timeout=0", "above 0"),
        ("timeout=nan", "above 0"),
        ("timeout=soon", "above 0"),
    ],
)
def test_a_senseless_option_is_refused_with_what_would_do(query: str, named: str) -> None:
    with pytest.raises(InvalidURL, match=named) as caught:
        locate(f"{URL}?{query}")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "sent", "kind", "says"),
    [
        (ConnectionRefusedError("refused"), False, BrokerUnavailable, "cannot be reached: refused"),
        (ConnectionResetError("reset"), True, ReplyLost, "cannot be reached: reset"),
        (TimeoutError(), True, ReplyLost, "no answer within 5 s"),
        (TimeoutError(), False, BrokerUnavailable, "no answer within 2 s"),
        (asyncpg.AdminShutdownError("shutting down"), True, ReplyLost, "shutting down"),
        (asyncpg.InterfaceError("s3cret"), True, ReplyLost, "InterfaceError"),
        (asyncpg.DiskFullError("no space"), True, BrokerFull, "no room left"),
        (asyncpg.TooManyConnectionsError("too many"), False, BrokerUnavailable, "too many"),
        (asyncpg.InvalidPasswordError("denied"), False, BrokerUnavailable, "denied"),
        (asyncpg.UndefinedTableError("no task"), True, SchemaMismatch, "conveyor migrate --url"),
    ],
)
def test_errors_of_the_store_become_ours(
    error: Exception, sent: bool, kind: type[Exception], says: str
) -> None:
    found = translated(error, locate(URL), sent=sent)
    assert type(found) is kind
    assert says in str(found)
    assert "db.example:6432" in str(found)
    assert "s3cret" not in str(found)


def test_what_was_refused_with_a_reply_is_not_lost() -> None:
    found = translated(asyncpg.DeadlockDetectedError("deadlock"), locate(URL), sent=True)
    assert type(found) is BrokerUnavailable


@given(st.lists(st.binary(max_size=40), max_size=40))
def test_bodies_in_a_row_are_read_as_tasks(payloads: list[bytes]) -> None:
    tasks = [Task(new_id(), "work", "q", 5, payload, 1.5) for payload in payloads]
    assert tasks_of(len(tasks), b"".join(pack(task) for task in tasks)) == tasks


def test_only_canonical_ids_are_asked_for() -> None:
    one = new_id()
    assert known_form([one, one.upper(), "nope", "", one]) == [one]


def test_no_statement_comes_twice_or_empty() -> None:
    for name in ("leases", "inspector", "invariants", "documents", "standing"):
        found = statements(name)
        assert len(found) == script(name).count("-- name: ")
        assert all(found.values())


async def test_whoever_gives_up_connecting_leaves_nothing_behind(postgres_url: str) -> None:
    """Wherever it is given up, the driver must not lose a connection half made: the loop would
    complain of an exception that nobody looked at, which fails this test."""
    for turns in range(40):
        connecting = asyncio.create_task(connect(locate(postgres_url), {}))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        if not connecting.cancelled():  # it was quicker
            await connecting.result().close()
    await asyncio.sleep(0)
    gc.collect()
