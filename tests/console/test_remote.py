"""`conveyor.remote` against a real console: in this process, and as a process of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor.errors import (
    IdempotencyConflict,
    InvalidArguments,
    InvalidOption,
    NotPermitted,
    PayloadTooLarge,
    RemoteError,
    ResultExpired,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    UnknownTask,
)
from conveyor.inspect import State
from conveyor.remote import AsyncRemote, NewTask, Remote
from conveyor_console.console import Console
from tests.console.conftest import Api
from tests.console.test_commands import staying
from tests.docs.pages import DOCS, blocks
from tests.running import at_work
from tests.worker.harness import eventually

SCOPES = ["tasks:read", "tasks:enqueue", "tasks:manage"]


@pytest.fixture
def database_kind() -> str:
    """What the client sees does not depend on the database."""
    return "sqlite"


async def remote_of(app: FastAPI, api: Api, *scopes: str) -> AsyncRemote:
    body = {"name": "another service", "scopes": list(scopes or SCOPES)}
    key = (await api.call("POST", "/api-keys", 201, json=body))["key"]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return AsyncRemote("http://console.test", key, transport=transport)


async def test_tasks_are_enqueued_looked_at_and_stopped(
    app: FastAPI, operator: Api, queue: Conveyor
) -> None:
    async with await remote_of(app, operator) as remote:
        one = await remote.enqueue(
            "shop.greet", ["Ada"], {"loud": True}, queue="mail", priority="high", delay=60
        )
        seen = await remote.task(one.id)
        assert (seen.name, seen.args, seen.kwargs) == ("shop.greet", ["Ada"], {"loud": True})
        assert (seen.queue, seen.priority, seen.state) == ("mail", 7, State.SCHEDULED)
        assert seen.due_at is not None
        assert not seen.is_final
        assert await remote.cancel(one.id, "not wanted") == "cancelled"
        with pytest.raises(TaskCancelled, match="not wanted"):
            await remote.result(one.id)
        with pytest.raises(RemoteError, match="ended already"):
            await remote.cancel(one.id)
        assert await remote.retry(one.id) == "queued"

        keyed = await remote.enqueue("shop.greet", ["Ada"], key="ada")
        assert keyed.created
        again = await remote.enqueue("shop.greet", ["Ada"], key="ada")
        assert (again.id, again.created) == (keyed.id, False)
        many = await remote.enqueue_many(
            [NewTask("shop.greet", ["a"]), NewTask("shop.greet", ["Ada"], key="ada")]
        )
        assert [task.created for task in many] == [True, False]
        assert many[1].id == keyed.id
    assert repr(remote) == "AsyncRemote('http://console.test/api/v1/')"


async def test_results_and_failures_come_back(app: FastAPI, operator: Api, queue: Conveyor) -> None:
    async with await remote_of(app, operator) as remote:
        well = await remote.enqueue("shop.greet", ["Ada"], {"loud": True})
        ill = await remote.enqueue("shop.fail", ["it rained"])
        with pytest.raises(TimeoutError, match=r"within 0\.1 s: it is queued"):
            await remote.result(well.id, timeout=0.1)
        async with at_work(queue, queues=("default",)):
            assert await remote.result(well.id, timeout=30, kind=str) == "ADA"
            with pytest.raises(TaskFailed, match="ValueError: it rained") as failed:
                await remote.result(ill.id, timeout=30)
        assert "raise ValueError(why)" in failed.value.remote_traceback
        (run,) = (await remote.task(ill.id)).executions
        assert (run.number, run.outcome) == (1, "failed")


async def test_no_result_is_told_from_one_that_is_none(
    app: FastAPI, operator: Api, queue: Conveyor, console: Console, sqlite_url: str
) -> None:
    @queue.task(name="shop.nothing")
    async def nothing() -> None: ...

    @queue.task(name="shop.gone", result_ttl=0)
    async def gone() -> int:
        return 7

    async def ends(remote: AsyncRemote, *, dies: bool) -> None:
        assert await remote.result(none.id, timeout=30) is None
        assert (await remote.task(none.id)).has_result
        with pytest.raises(ResultExpired, match=expired.id):
            await remote.result(expired.id, timeout=30)
        if dies:
            assert not (await remote.task(waits.id)).has_result

    async with await remote_of(app, operator) as remote:
        none, expired = await remote.enqueue("shop.nothing"), await remote.enqueue("shop.gone")
        waits = await remote.enqueue("shop.nothing", delay=3_600)
        async with at_work(queue):
            await ends(remote, dies=True)
        await console.recorder.catch_up()
        # Also of tasks that only the history knows any more.
        with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as store:
            for table in ("execution", "finished", "task"):
                store.execute(f"DELETE FROM conveyor_{table}")
            store.commit()
        await ends(remote, dies=False)


async def test_refusals_are_the_queues_own_errors(app: FastAPI, operator: Api) -> None:
    async with await remote_of(app, operator) as remote:
        with pytest.raises(UnknownTask, match=r"did you mean shop\.greet") as unknown:
            await remote.enqueue("shop.great", ["Ada"])
        assert unknown.value.name == "shop.great"
        with pytest.raises(InvalidArguments, match="Expected `str`, got `int`"):
            await remote.enqueue("shop.greet", [7])
        with pytest.raises(InvalidOption, match="/priority"):
            await remote.enqueue("shop.greet", ["Ada"], priority=10)
        with pytest.raises(PayloadTooLarge):
            await remote.enqueue("shop.greet", ["x" * 300_000])
        with pytest.raises(PayloadTooLarge, match="larger than"):
            await remote.enqueue("shop.greet", ["x" * (1 << 20)])
        with pytest.raises(TaskNotFound, match="mistyped") as missing:
            await remote.task("01930000-0000-7000-8000-000000000000")
        assert missing.value.task_id == "01930000-0000-7000-8000-000000000000"
        first = await remote.enqueue("shop.greet", ["Ada"], key="k")
        with pytest.raises(IdempotencyConflict) as conflict:
            await remote.enqueue("shop.greet", ["Eve"], key="k")
        assert (conflict.value.key, conflict.value.task_id) == ("k", first.id)
    async with await remote_of(app, operator, "tasks:read") as reader:
        with pytest.raises(NotPermitted, match="tasks:enqueue") as refused:
            await reader.enqueue("shop.greet", ["Ada"])
        assert refused.value.status == 403


async def test_a_lost_answer_makes_no_second_task(
    app: FastAPI, operator: Api, queue: Conveyor
) -> None:
    class Losing(httpx.AsyncBaseTransport):
        """The console does what it is asked; its first answer never arrives."""

        def __init__(self) -> None:
            self.inner = httpx.ASGITransport(app)
            self.lost = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await self.inner.handle_async_request(request)
            if request.method == "POST" and not self.lost:
                self.lost += 1
                raise httpx.ReadError("reset")
            return answer

    made = await operator.call("POST", "/api-keys", 201, json={"name": "k", "scopes": SCOPES})
    for tasks in (1, 3):
        async with AsyncRemote(
            "http://console.test", made["key"], transport=(losing := Losing())
        ) as remote:
            await remote.enqueue_many([NewTask("shop.greet", [str(n)]) for n in range(tasks)])
            assert losing.lost == 1
    counts = await (await queue.inspector()).counts()
    assert sum(counts.values()) == 4


def enqueued_by_node(node: str, folder: Path, address: str, key: str) -> Any:
    """Run the program that docs/howto/enqueue-over-http.md gives to users of Node."""
    page = DOCS / "howto" / "enqueue-over-http.md"
    (code,) = (block.code for block in blocks(page) if block.language == "js")
    (folder / "enqueue.mjs").write_text(code, "utf-8")
    (folder / "main.mjs").write_text(
        'import { enqueue } from "./enqueue.mjs";\n'
        "const [url, key] = process.argv.slice(2);\n"
        'const made = await enqueue(url, key, { name: "shop.greet", args: ["Node"] });\n'
        "console.log(JSON.stringify(made));\n",
        "utf-8",
    )
    command = [node, str(folder / "main.mjs"), address, key]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(ran.stdout)


def test_a_console_that_runs_is_talked_to_by_blocking_code(tmp_path: Path) -> None:
    told = {"CONVEYOR_ADMIN_EMAIL": "ada@example.com", "CONVEYOR_ADMIN_PASSWORD": "long enough!"}
    with staying(tmp_path, "up", "tests.console.shop:app", **told) as up:
        with httpx.Client(base_url=up.address) as http:
            login = {"email": "ada@example.com", "password": "long enough!"}
            token = http.post("/api/v1/auth/login", json=login).json()["access_token"]
            http.cookies.clear()
            made = http.post(
                "/api/v1/api-keys",
                json={"name": "k", "scopes": SCOPES},
                headers={"Authorization": f"Bearer {token}"},
            ).json()
        with Remote(up.address, made["key"]) as remote:
            task = remote.enqueue("shop.greet", ["Ada"])
            assert remote.result(task.id, timeout=30, kind=str) == "hello Ada"
            eventually(lambda: remote.task(task.id).is_final)
            with pytest.raises(RemoteError, match="only failed and cancelled"):
                remote.retry(task.id)
            if node := shutil.which("node"):
                said = enqueued_by_node(node, tmp_path, up.address, made["key"])
                assert remote.result(said["id"], timeout=30) == "hello Node"
        with Remote(up.address, "cv_made_up") as stranger, pytest.raises(NotPermitted):
            stranger.enqueue("shop.greet", ["Ada"])
        assert up.end() == 0
