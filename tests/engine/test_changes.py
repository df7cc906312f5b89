"""Code changes under queued tasks: aliases, versions, sealed arguments, large arguments."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pydantic
import pytest

from conveyor import Conveyor
from conveyor.core.task import NewTask, State, Task
from conveyor.errors import IdempotencyConflict, InvalidOption, PayloadTooLarge
from conveyor.limits import Unique
from conveyor.offload import DirectoryStore, Offload
from conveyor.sealing import Keyring
from conveyor.system import new_id
from conveyor.worker.intake import ELSEWHERE, pause_until_elsewhere
from tests.running import at_work, reached


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class Card(pydantic.BaseModel):
    number: int


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


def test_what_is_left_to_others_waits_a_little_longer_each_time() -> None:
    pauses = [pause_until_elsewhere(execution) for execution in (1, 2, 3, 4, 5, 6, 7, 10_000)]
    assert pauses == [1, 2, 4, 8, 16, ELSEWHERE, ELSEWHERE, ELSEWHERE]


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


async def test_no_digest_tells_what_a_sealed_argument_is(broker_url: str) -> None:
    """A digest of the plain call lets anybody with the store try out all cards of a customer."""
    async with Conveyor(broker_url, keys=Keyring({"new": NEW})) as app:

        @app.task(encrypt=("pin",))
        async def charge(customer: int, pin: int) -> None: ...

        first = await charge.with_options(key="once").enqueue(7, 1234)
        assert (await charge.with_options(key="once").enqueue(7, 9999)).id == first.id
        with pytest.raises(IdempotencyConflict):
            await charge.with_options(key="once").enqueue(8, 1234)
        with pytest.raises(InvalidOption, match="key function"):
            charge.with_options(unique="until_done")
        charge.with_options(unique=Unique(key=lambda customer, pin: customer))


async def test_sealed_arguments_that_do_not_fit_are_not_quoted(broker_url: str) -> None:
    async with Conveyor(broker_url, keys=Keyring({"new": NEW})) as app:

        @app.task(name="pay", encrypt=("card",))
        async def older(card: str) -> None: ...

        handle = await older.enqueue("4111-1111")

        async with Conveyor(broker_url, keys=Keyring({"new": NEW})) as newer:

            async def pay(card: Card) -> None: ...

            newer.task(name="pay", encrypt=("card",))(pay)
            async with at_work(newer):
                info = await reached(handle, State.FAILED)
        assert "do not fit pay" in repr(info)
        assert "4111" not in repr(info)


async def test_a_large_sealed_call_is_left_to_whoever_has_key_and_store(
    broker_url: str, tmp_path: Path
) -> None:
    offload = Offload(DirectoryStore(tmp_path / "blobs"), above=100)
    reasons = []
    for n, keyring, store in ((1, {"new": NEW}, None), (2, {"old": OLD}, offload)):
        async with Conveyor(broker_url, keys=Keyring({"new": NEW}), offload=offload) as app:

            @app.task(name=f"charge{n}", encrypt=("card",))
            async def charge(card: str) -> None: ...

            handle = await charge.enqueue("4111" * 100)
            assert "4111" not in repr(await handle.info())
            async with Conveyor(broker_url, keys=Keyring(keyring), offload=store) as other:
                other.task(name=f"charge{n}", encrypt=("card",))(charge.fn)
                async with at_work(other):
                    info = await reached(handle, State.SCHEDULED)
            assert info.attempts == 0
            reasons.append(info.reason)
    assert "this worker has none" in (reasons[0] or "")
    assert "sealed with key 'new'" in (reasons[1] or "")


@pytest.mark.parametrize("payload", [b"\x93garbage", b"\x93\x01\x02\x03", b"\x93\x90\x80"])
async def test_a_payload_that_is_none_ends_its_task_and_no_worker(
    app: Conveyor, payload: bytes
) -> None:
    @app.task
    async def work() -> int:
        return 1

    task = Task(new_id(), work.name, "default", 5, payload, time.time())
    await (await app.client()).broker.push([NewTask(task)])
    async with at_work(app):
        info = await reached(app.handle(task.id), State.FAILED)
        assert "do not fit" in (info.reason or "") + repr(info.error)
        assert await (await work.enqueue()).result(10) == 1


def test_keys_and_secrets_that_make_no_sense() -> None:
    keys: list[Any] = [
        {},
        "x",
        {"a": b"short"},
        {"a": "short base64!"},
        {"a": "shört"},
        {"a": 7},
        {1: OLD},
        {"short" * 9: OLD},
    ]
    for wrong in keys:
        with pytest.raises(InvalidOption) as caught:
            Keyring(wrong)
        assert "short" not in str(caught.value)
        assert "shört" not in str(caught.value)
    with pytest.raises(InvalidOption, match="no such key"):
        Keyring({"a": OLD}, current="b")
    plain, sealing = Conveyor("sqlite://"), Conveyor("sqlite://", keys=Keyring({"a": OLD}))

    def work(card: str) -> None: ...

    with pytest.raises(InvalidOption, match="needs keys"):
        plain.task(encrypt=("card",))
    with pytest.raises(InvalidOption, match="names of its parameters"):
        sealing.task(encrypt=("cart",))(work)

    def many(*rest: str, **more: str) -> None: ...

    for hidden in ("rest", "more"):
        with pytest.raises(InvalidOption, match="names of its parameters"):
            sealing.task(encrypt=(hidden,))(many)
    with pytest.raises(InvalidOption, match="a list of names"):
        sealing.task(encrypt="card")
    with pytest.raises(InvalidOption, match="a list of names"):
        plain.task(aliases="shop.send")
    with pytest.raises(InvalidOption, match="bytes, from 1 to 262,144"):
        Offload(DirectoryStore("blobs"), above=300_000)
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


def test_a_blob_that_is_needed_again_is_young_again(tmp_path: Path) -> None:
    offload = Offload(DirectoryStore(tmp_path))
    blob = offload.put(b"x")
    (file,) = files_in(tmp_path)
    os.utime(file, (0, 0))
    assert offload.put(b"x") == blob
    assert file.stat().st_mtime > 0
    with pytest.raises(LookupError, match="names no blob"):
        DirectoryStore(tmp_path / "deeper").get("../" + file.name)


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
