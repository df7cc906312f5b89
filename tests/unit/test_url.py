"""Broker URLs: who is meant, and that no password ever shows."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor import Conveyor
from conveyor.brokers.url import connect
from conveyor.core.errors import InvalidOption, InvalidURL
from conveyor.core.urls import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("sqlite:///tasks.db", "sqlite:///tasks.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("redis://:s3cret@host:6379/0", "redis://***@host:6379/0"),
        ("redis://ada:s3cret@host/0?timeout=2", "redis://ada:***@host/0?timeout=2"),
        ("postgresql://ada:s3@cret@host/db", "postgresql://ada:***@host/db"),
        ("postgresql://ada:s3:cret@[::1]:5432/db", "postgresql://ada:***@[::1]:5432/db"),
        ("postgresql://ada@host/db", "postgresql://ada@host/db"),
        ("postgresql:///db?password=s3cret&host=h", "postgresql:///db?password=***&host=h"),
        ("postgresql://h/db?x=1&sslpassword=s3cret", "postgresql://h/db?x=1&sslpassword=***"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


words = st.text(st.characters(whitelist_categories=("Lu", "Ll", "Nd")), min_size=1, max_size=20)


@given(words, words, words)
def test_redaction_leaves_no_trace_of_the_password(user: str, password: str, host: str) -> None:
    secret = f"pw-{password}-pw"
    for scheme in ("redis", "postgresql", "unheard-of"):
        assert secret not in redact(f"{scheme}://{user}:{secret}@{host}:1/x?namespace=y")
        assert secret not in redact(f"{scheme}://:{secret}@{host}")


@pytest.mark.parametrize(
    "url", ["kafka://ada:s3cret@host", "", "tasks.db", "://x", "mysql+aio://ada:s3cret@host/db"]
)
def test_an_unknown_scheme_is_refused_with_those_there_are(url: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        connect(url)
    message = str(caught.value)
    assert "unknown scheme" in message
    assert "sqlite:///file.db, postgresql://… or redis://…" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("url", ["sqlite:///a\0b.db", "redis://host/0\n", "sqlite:///\ud800.db"])
def test_what_no_url_may_hold_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL, match="holds a character that no URL may"):
        connect(url)


def test_an_empty_url_is_no_url_and_not_the_default() -> None:
    assert Conveyor("").url == ""
    with pytest.raises(InvalidURL, match="a broker URL is a text"):
        Conveyor(5)  # type: ignore[arg-type]


def test_a_missing_driver_is_an_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "asyncpg" or name.startswith("conveyor.brokers.postgres"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(InvalidURL) as caught:
        connect("postgresql://ada:s3cret@host/db")
    message = str(caught.value)
    assert "pip install 'conveyor[postgres]'" in message
    assert "'asyncpg'" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///{tmp}/tasks.db?nonsense=1",
        "postgresql://ada:s3cret@host/db?nonsense=1",
        "redis://ada:s3cret@host/0?nonsense=1",
    ],
)
def test_an_unknown_option_is_refused(url: str, tmp_path: object) -> None:
    with pytest.raises(InvalidURL, match="nonsense") as caught:
        connect(url.format(tmp=tmp_path))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://host/db?timeout=soon", "redis://host/?timeout=-1"])
def test_a_senseless_option_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption, match="timeout"):
        connect(url)


@pytest.mark.parametrize(
    ("url", "store"),
    [
        ("sqlite:///tasks.db", "SQLiteBroker"),
        ("SQLITE:///tasks.db", "SQLiteBroker"),
        ("postgres://host/db", "PostgresBroker"),
        ("postgresql://ada:s3cret@host/db", "PostgresBroker"),
        ("postgresql+asyncpg://host/db", "PostgresBroker"),
        ("redis://:s3cret@host/0", "RedisBroker"),
        ("rediss://host", "RedisBroker"),
        ("valkey://host/3?namespace=mine", "RedisBroker"),
        ("valkeys://host", "RedisBroker"),
    ],
)
def test_the_scheme_names_the_store(url: str, store: str) -> None:
    """Nothing is connected yet, so the servers need not exist."""
    broker = connect(url)
    assert type(broker).__name__ == store
    assert "s3cret" not in broker.url
    assert "s3cret" not in repr(broker)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://db:99999/x", "port '99999' should be from 1 to 65535"),
        ("postgresql://a:5432,b:0/x", "port '0'"),
        ("postgresql://db/x?port=many", "port 'many'"),
        ("sqlite:/a.db", "lacks slashes"),
        ("sqlite:", "lacks slashes"),
    ],
)
def test_an_address_that_no_server_can_have(url: str, says: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        connect(url)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_setting_that_the_driver_does_not_know() -> None:
    with pytest.raises(InvalidURL, match="sslmode") as caught:
        await connect("postgresql://ada:s3cret@127.0.0.1/x?sslmode=bogus").open()
    assert "s3cret" not in str(caught.value)
