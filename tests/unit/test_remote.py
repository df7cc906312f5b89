"""`conveyor.remote` against consoles that fail: what is repeated, what is not, what is said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from conveyor.errors import (
    IdempotencyConflict,
    InvalidOption,
    NotPermitted,
    NotSerialisable,
    PayloadTooLarge,
    RemoteError,
    RemoteUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    UnknownTask,
)
from conveyor.remote import NewTask, Remote

ID = "01930000-0000-7000-8000-000000000000"
Step = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.slept: list[float] = []

    def time(self) -> float:
        return 1_764_244_800.0 + self.passed

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds


class Fake(httpx.BaseTransport):
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else step(request)


def client(fake: Fake, clock: Clock | None = None, **more: float) -> Remote:
    clock = clock or Clock()
    ids = iter(range(1, 100))
    return Remote(
        "https://console.test/",
        "cv_secret",
        transport=fake,
        clock=clock,
        dice=lambda: 1.0,
        new_id=lambda: f"id-{next(ids)}",
        sleep=clock.sleep,
        **more,
    )


def made(created: bool = True) -> httpx.Response:
    return httpx.Response(201, json={"id": ID, "created": created})


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **more: str) -> Step:
    return httpx.Response(
        status, json={"detail": detail, "status": status, **more}, headers=headers
    )


def task(state: str, **more: object) -> httpx.Response:
    body = {
        "id": ID,
        "name": "a",
        "queue": "q",
        "priority": 5,
        "state": state,
        "enqueued_at": "2026-11-27T12:00:00Z",
    }
    return httpx.Response(200, json={**body, **more, "a_field_of_tomorrow": 1})


def test_an_enqueue_is_repeated_under_one_key_until_it_is_answered() -> None:
    clock, busy = Clock(), {"Retry-After": "3"}
    fake = Fake(
        httpx.ConnectError("refused"),
        problem(503, "full", busy),
        problem(429, "slow down"),
        httpx.ReadError("reset"),
        httpx.Response(502, text="<h1>Bad gateway</h1>"),
        made(created=False),
    )
    with client(fake, clock) as remote:
        enqueued = remote.enqueue("shop.greet", ["Ada"], {"loud": True}, priority="high", delay=1)

    assert (enqueued.id, enqueued.created) == (ID, True)  # under our own key it was us
    assert clock.slept == [0.2, 3.0, 0.8, 1.6, 3.2]
    assert {one.headers["Idempotency-Key"] for one in fake.asked} == {"id-1"}
    assert {one.headers["Authorization"] for one in fake.asked} == {"Bearer cv_secret"}
    assert str(fake.asked[0].url) == "https://console.test/api/v1/tasks"
    assert json.loads(fake.asked[0].content) == {
        "name": "shop.greet",
        "args": ["Ada"],
        "kwargs": {"loud": True},
        "priority": "high",
        "delay": 1,
    }


def test_patience_ends_and_the_error_says_what_is_known() -> None:
    lost = client(Fake(*(httpx.ReadTimeout("slow") for _ in range(9))), patience=1.0)
    with pytest.raises(RemoteUnavailable, match=r"3 tries .*nobody knows") as caught:
        lost.enqueue("a")
    assert (caught.value.done, caught.value.status) == (None, None)

    busy = client(Fake(problem(503, "too many", {"Retry-After": "60"})))
    with pytest.raises(RemoteUnavailable, match=r"too many.*nothing was done.*in 60 s") as caught:
        busy.enqueue("a")
    assert (caught.value.done, caught.value.retry_after, caught.value.status) == (False, 60.0, 503)

    at = Clock()
    when = "Thu, 27 Nov 2025 12:00:07 GMT"
    client(Fake(problem(429, "wait", {"Retry-After": when}), made()), at).enqueue("a")
    assert at.slept == [7.0]


def test_a_retry_is_not_repeated_when_it_may_have_been_done() -> None:
    fake = Fake(httpx.ReadError("reset"))
    with pytest.raises(RemoteUnavailable, match="nobody knows"):
        client(fake).retry(ID)
    assert len(fake.asked) == 1

    fake = Fake(
        httpx.ConnectError("refused"), httpx.Response(200, json={"id": ID, "state": "queued"})
    )
    assert client(fake).retry(ID) == "queued"


def test_a_cancel_whose_answer_was_lost_is_done() -> None:
    ended = "task has ended already: it is cancelled"
    fake = Fake(httpx.ReadError("reset"), problem(409, ended), task("cancelled"))
    assert client(fake).cancel(ID, "late") == "cancelled"
    with pytest.raises(RemoteError, match="ended already"):
        client(Fake(problem(409, ended))).cancel(ID)
    with pytest.raises(RemoteError, match="ended already"):
        client(Fake(httpx.ReadError("x"), problem(409, ended), task("succeeded"))).cancel(ID)


def test_tasks_with_keys_of_their_own_send_no_other() -> None:
    fake = Fake(made(created=False))
    assert not client(fake).enqueue("a", key="mine").created
    assert "Idempotency-Key" not in fake.asked[0].headers

    fake = Fake(httpx.Response(201, json={"items": [{"id": ID, "created": True}] * 2}))
    client(fake).enqueue_many([NewTask("a", key="mine"), NewTask("a")])
    keys = [one["key"] for one in json.loads(fake.asked[0].content)["tasks"]]
    assert keys == ["mine", "remote:id-1:1"]
    assert client(Fake()).enqueue_many([]) == []


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (problem(422, "no task is named", error="UnknownTask", name="x"), UnknownTask, "no task"),
        (
            problem(409, "k belongs to", error="IdempotencyConflict", task_id=ID),
            IdempotencyConflict,
            "k",
        ),
        (problem(404, "no such", error="TaskNotFound", task_id=ID), TaskNotFound, "no such"),
        (problem(422, "/priority: too high"), InvalidOption, "/priority"),
        (problem(413, "too large"), PayloadTooLarge, "too large"),
        (problem(401, "the token is not valid"), NotPermitted, "not valid"),
        (problem(403, "this needs tasks:enqueue"), NotPermitted, "tasks:enqueue"),
        (problem(500, "the log knows", error="Exit"), RemoteError, "the log knows"),
        (httpx.Response(404, text="<h1>nginx</h1>"), RemoteError, "not from a console: <h1>nginx"),
        (httpx.Response(404), RemoteError, "status 404"),
        (httpx.Response(307, headers={"Location": "/x"}), RemoteError, "redirect"),
        (httpx.Response(200, text="<html>"), RemoteError, "base URL"),
        (httpx.Response(201, json={"id": 7}), RemoteError, "base URL"),
    ],
)
def test_refusals_become_the_queues_own_errors(
    answer: httpx.Response, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        client(Fake(answer)).enqueue("a")
    assert type(caught.value) is kind
    assert "cv_secret" not in str(caught.value)
    if isinstance(caught.value, IdempotencyConflict | TaskNotFound):
        assert caught.value.task_id == ID


def test_a_result_is_waited_for() -> None:
    clock = Clock()
    fake = Fake(task("queued"), task("running"), task("succeeded", result={"n": 1}))
    assert client(fake, clock).result(ID, timeout=5) == {"n": 1}
    assert clock.slept == [0.05, pytest.approx(0.075)]
    assert client(Fake(task("succeeded", result=3))).result(ID, kind=int) == 3
    with pytest.raises(RemoteError, match="not what was expected"):
        client(Fake(task("succeeded", result="x"))).result(ID, kind=int)
    failure = {"type": "ValueError", "message": "no", "traceback": "Traceback: here"}
    run = {"number": 1, "attempt": 1, "outcome": "failed", "worker": "w", "seconds": 1}
    runs = [{**run, "started_at": "2026-11-27T12:00:00Z", "error": failure}]
    with pytest.raises(TaskFailed, match="ValueError: no") as failed:
        client(Fake(task("failed", executions=runs))).result(ID)
    assert failed.value.remote_traceback == "Traceback: here"
    with pytest.raises(TaskFailed, match="it is skipped"):
        client(Fake(task("skipped"))).result(ID)
    with pytest.raises(TaskCancelled, match="too late"):
        client(Fake(task("cancelled", reason="too late"))).result(ID)
    with pytest.raises(TimeoutError, match=r"within 0.1 s: it is queued"):
        client(Fake(*(task("queued") for _ in range(9)))).result(ID, timeout=0.1)


def test_what_json_cannot_hold_is_refused_before_it_is_sent() -> None:
    fake = Fake(made())
    remote = client(fake)
    for value in (float("nan"), float("inf"), object(), 1j):
        with pytest.raises(NotSerialisable):
            remote.enqueue("a", [value])
    assert not fake.asked
    remote.enqueue("a", [datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.50"), (1, 2)])
    assert json.loads(fake.asked[0].content)["args"] == ["2026-01-01T00:00:00Z", "1.50", [1, 2]]


def test_an_id_is_one_step_of_a_path() -> None:
    fake = Fake(problem(404, "no", error="TaskNotFound"))
    with pytest.raises(TaskNotFound):
        client(fake).task("../users?x=1")
    assert fake.asked[0].url.raw_path == b"/api/v1/tasks/..%2Fusers%3Fx%3D1"


@pytest.mark.parametrize(
    ("url", "key", "timeout"),
    [
        ("console.test", "cv_x", 1),
        ("ftp://console.test", "cv_x", 1),
        ("http://", "cv_x", 1),
        ("http://[", "cv_x", 1),
        ("http://ada:secret@console.test", "cv_x", 1),
        ("http://console.test?x=secret", "cv_x", 1),
        ("http://console.test", "secret", 1),
        ("http://console.test", "cv_secret\r\nX: y", 1),
        ("http://console.test", "cv_x", 0),
    ],
)
def test_what_cannot_be_is_said_at_once(url: str, key: str, timeout: float) -> None:
    with pytest.raises(InvalidOption) as refused:
        Remote(url, key, timeout=timeout)
    assert "secret" not in str(refused.value)


def test_it_says_where_it_leads_and_not_its_key() -> None:
    with Remote("http://127.0.0.1:9/conveyor/api/v1/", "cv_secret") as remote:
        assert repr(remote) == "Remote('http://127.0.0.1:9/conveyor/api/v1/')"


def test_it_drags_in_no_store_and_no_web_framework() -> None:
    code = (
        # Coverage, which begins before us, keeps its data in SQLite.
        "import sys; before = set(sys.modules); from conveyor.remote import Remote; "
        "Remote('http://127.0.0.1:9', 'cv_x').close(); "
        "new = sys.modules.keys() - before; "
        "print([m for m in new if m.partition('.')[0] in {'fastapi', 'starlette', "
        "'pydantic', 'sqlalchemy', 'sqlite3', 'asyncpg', 'redis', 'conveyor_console'} "
        "or m in {'conveyor.brokers.' + s for s in ('sqlite', 'postgres', 'redis')}])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_who_waits_a_second_waits_a_second_also_when_the_console_is_down() -> None:
    clock = Clock()
    fake = Fake(*(httpx.ConnectError("refused") for _ in range(20)))
    with pytest.raises(RemoteUnavailable):
        client(fake, clock).result(ID, timeout=1)
    assert clock.passed <= 1
    assert fake.asked[0].extensions["timeout"]["read"] == 1
