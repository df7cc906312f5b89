"""Redis URLs: every shape of an address, and what makes no sense."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from conveyor.brokers.base import Broker
from conveyor.brokers.redis.address import Address, parse
from conveyor.brokers.redis.broker import RedisBroker
from conveyor.brokers.url import connect
from conveyor.core.errors import InvalidURL
from conveyor.core.task import NewTask, State, Task
from conveyor.system import new_id
from tests.servers import ValkeyServer


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Broker]:
    broker = connect(url)
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


def a_task() -> Task:
    return Task(new_id(), "work", "q", 5, b"\x92\x90\x80", 0.0)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address(kind="server", hosts=(("localhost", 6379),))),
        (
            "valkey://ada:p%40ss@[::1]:7000/3?namespace=n&durability=fsync&timeout=0.5",
            Address(
                kind="server",
                hosts=(("::1", 7000),),
                db=3,
                username="ada",
                password="p@ss",
                namespace="n",
                durability="fsync",
                timeout=0.5,
            ),
        ),
        (
            "rediss://:pw@host?ca=/ca.pem",
            Address(kind="server", hosts=(("host", 6379),), password="pw", tls=True, ca="/ca.pem"),
        ),
        ("redis+unix:///run/r.sock?db=2", Address(kind="unix", path="/run/r.sock", db=2)),
        (
            "rediss+sentinel://a,b:7000/main/1",
            Address(
                kind="sentinel",
                hosts=(("a", 26379), ("b", 7000)),
                service="main",
                db=1,
                tls=True,
            ),
        ),
        (
            "valkeys+cluster://a:1,b:2",
            Address(kind="cluster", hosts=(("a", 1), ("b", 2)), tls=True),
        ),
    ],
)
def test_what_a_url_says(url: str, address: Address) -> None:
    assert parse(url) == address


async def test_a_unix_socket(valkey: ValkeyServer) -> None:
    async with opened(f"redis+unix://{valkey.socket_path}?db=3") as broker:
        assert await broker.inspector.queue_names() == []


async def test_a_database(valkey: ValkeyServer) -> None:
    for number in (6, 7):
        async with opened(valkey.url_of_database(number)) as broker:
            await broker.push([NewTask(a_task())])
            assert (await broker.inspector.counts())[State.QUEUED] == 1
    with valkey.client() as client:
        client.flushall()


async def test_a_password() -> None:
    with ValkeyServer(password="s3cret+word") as server:
        url = server.url.replace("s3cret+word", "s3cret%2Bword")
        async with opened(url) as broker:
            assert not any((await broker.inspector.counts()).values())
            assert "s3cret" not in repr(broker) + broker.url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://host/0?namespace=a{b}", "namespace"),
        ("redis://host/0?durability=very", "fast, fsync or replicated"),
        ("redis://host/0?timeout=0", "timeout"),
        ("redis://host/0?db=1", "write the database as"),
        ("redis://host/zero", "a number was expected"),
        ("redis://host/0?ca=/x", "rediss://"),
        ("redis://host:99999", "is not host:port"),
        ("redis+unix://host/path", "three slashes"),
        ("redis+unix://", "three slashes"),
        ("redis+sentinel://a,b", "names no service"),
        ("redis+cluster://a/0", "a cluster has no databases"),
        ("redis+magic://a", "magic"),
        ("redis://host/0?nonsense=1", "namespace, durability, timeout"),
    ],
)
def test_what_makes_no_sense_is_said(url: str, complaint: str) -> None:
    with pytest.raises(InvalidURL, match=complaint):
        RedisBroker(url)
