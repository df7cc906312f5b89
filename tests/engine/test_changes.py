"""Code changes under queued tasks: aliases, versions, sealed arguments, large arguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.core.task import State
from conveyor.errors import InvalidOption, PayloadTooLarge
from conveyor.offload import DirectoryStore, Offload
from conveyor.sealing import Keyring
from tests.running import at_work, reached


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


OLD, NEW = os.urandom(32), os.urandom(32)


async def test_a_renamed_task_still_answers_to_its_old_name(app: Conveyor, broker_url: str) -> None:
    async with Conveyor(broker_url) as older:

        @older.task(name="shop.send")
        async def send(n: int) -> int:
            return n

        handle = await send.enqueue(1)

    @app.task(name="shop.mail.send", aliases=["shop.send"])
    async def renamed(n: int) -> int:
        return n + 1

    async with at_work(app):
        assert await app.handle(handle.id).result(10) == 2


async def test_old_arguments_are_brought_up_to_date_step_by_step(
    app: Conveyor, broker_url: str
) -> None:
    async with Conveyor(broker_url) as older:

        @older.task(name="greet")
        async def first(name: str) -> None: ...

        old = await first.enqueue("ada lovelace")

    @app.task(
        name="greet",
        version=3,
        migrate={
            1: lambda args, kwargs: (args[0].split(" ", 1), kwargs),
            2: lambda args, kwargs: ((), {"given": args[0], "family": args[1], **kwargs}),
        },
    )
    async def third(*, given: str, family: str) -> str:
        return f"{family}, {given}"

    async with at_work(app):
        assert await app.handle(old.id).result(10) == "lovelace, ada"
        assert await (await third.enqueue(given="a", family="b")).result(10) == "b, a"


async def test_a_newer_call_waits_for_newer_code(app: Conveyor, broker_url: str) -> None:
    async with Conveyor(broker_url) as newer:

        @newer.task(name="greet", version=2)
        async def second(name: str, title: str) -> None: ...

        handle = await second.enqueue("ada", "countess")

    @app.task(name="greet")
    async def first(name: str) -> None: ...

    async with at_work(app):
        info = await reached(app.handle(handle.id), State.SCHEDULED)
    assert info.reason == (
        "it was enqueued for version 2 of 'greet', and this worker has version 1"
    )
    assert (info.attempts, info.executions) == (0, ())


async def test_sealed_arguments_are_nowhere_in_the_clear(broker_url: str) -> None:
    async with Conveyor(broker_url, keys=Keyring({"old": OLD, "new": NEW})) as app:

        @app.task(encrypt=("card", "pin"))
        async def charge(customer: int, card: str, *, pin: int = 0) -> list[Any]:
            return [customer, card, pin]

        handle = await charge.enqueue(7, "4111-1111", pin=1234)
        info = await handle.info()
        assert info.args == (7, "<sealed with key new>")
        assert info.kwargs == {"pin": "<sealed with key new>"}
        plain = await charge.enqueue(8, "4242")
        async with at_work(app):
            assert await handle.result(10) == [7, "4111-1111", 1234]
            assert await plain.result(10) == [8, "4242", 0]


async def test_a_worker_without_the_key_leaves_the_task_to_others(broker_url: str) -> None:
    async with Conveyor(broker_url, keys=Keyring({"new": NEW})) as app:

        @app.task(name="charge", encrypt=("card",))
        async def charge(card: str) -> str:
            return card

        handle = await charge.enqueue("4111")
        async with Conveyor(broker_url, keys=Keyring({"old": OLD})) as other:

            @other.task(name="charge", encrypt=("card",))
            async def same(card: str) -> str:
                return card

            async with at_work(other):
                info = await reached(handle, State.SCHEDULED)
                assert "sealed with key 'new'" in (info.reason or "")


def test_keys_and_secrets_that_make_no_sense() -> None:
    keys: list[dict[str, bytes | str]] = [{}, {"a": b"short"}, {"a": "not base64!"}]
    for wrong in keys:
        with pytest.raises(InvalidOption) as caught:
            Keyring(wrong)
        assert "short" not in str(caught.value)
    with pytest.raises(InvalidOption, match="no such key"):
        Keyring({"a": OLD}, current="b")
    plain, sealing = Conveyor("sqlite://"), Conveyor("sqlite://", keys=Keyring({"a": OLD}))

    def work(card: str) -> None: ...

    with pytest.raises(InvalidOption, match="needs keys"):
        plain.task(encrypt=("card",))
    with pytest.raises(InvalidOption, match="names of its parameters"):
        sealing.task(encrypt=("cart",))(work)
    with pytest.raises(InvalidOption, match="key function"):
        sealing.task(encrypt=("card",), unique="until_done")
    with pytest.raises(InvalidOption, match="from 1 to version - 1"):
        plain.task(version=2, migrate={2: lambda args, kwargs: (args, kwargs)})(work)
    with pytest.raises(InvalidOption, match="a whole number"):
        plain.task(version=0)(work)


async def test_large_arguments_travel_by_the_blob_store(broker_url: str, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    offload = Offload(DirectoryStore(blobs), above=10_000)
    async with Conveyor(broker_url, offload=offload) as app:

        @app.task
        async def size(data: bytes) -> int:
            return len(data)

        large = await size.enqueue(b"x" * 1_000_000)
        small = await size.enqueue(b"x")
        assert (await large.info()).args == ("<1,000,008 bytes in the blob store>",)
        assert len(files_in(blobs)) == 1
        async with at_work(app):
            assert await large.result(10) == 1_000_000
            assert await small.result(10) == 1


async def test_a_lost_blob_fails_the_attempt(broker_url: str, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "blobs")
    async with Conveyor(broker_url, offload=Offload(store, above=100)) as app:

        @app.task
        async def size(data: bytes) -> int:
            return len(data)

        handle = await size.with_options(max_attempts=1).enqueue(b"x" * 1_000)
        for path in files_in(tmp_path / "blobs"):
            path.unlink()
        async with at_work(app):
            info = await reached(handle, State.FAILED)
            assert info.error is not None
            assert "no blob" in info.error.message


async def test_without_a_blob_store_large_arguments_are_refused(app: Conveyor) -> None:
    @app.task
    async def size(data: bytes) -> int:
        return len(data)

    with pytest.raises(PayloadTooLarge):
        await size.enqueue(b"x" * 300_000)
