"""A console over a queue, on each of its databases, with a clock that the test holds."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from conveyor import Conveyor, Retry
from conveyor_console.alerts.alerting import Alerting
from conveyor_console.app import create_app
from conveyor_console.auth.accounts import create_user
from conveyor_console.auth.models import Role
from conveyor_console.auth.passwords import Passwords
from conveyor_console.console import Console
from conveyor_console.db import engine, schema
from conveyor_console.db.engine import Database
from conveyor_console.history.recorder import Recorder
from conveyor_console.kit.rounds import Rounds
from conveyor_console.settings import Settings
from tests.conftest import unmeasured
from tests.servers import PostgresServer
from tests.servers.postgres import run_in_own_loop

PASSWORD = "a password of some length"
QUICK = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)
SECRET = "a secret of the tests, long enough for HS256"


class TestClock:
    """Time that stands still until told otherwise."""

    __test__ = False

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 27, 12, tzinfo=UTC)
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.unmeasured)])
def database_kind(request: pytest.FixtureRequest) -> str:
    """What the console's own database is: each in turn."""
    return str(request.param)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> str:
    """An empty database for the console."""
    if database_kind == "sqlite":
        return f"sqlite:///{(tmp_path / 'console.db').as_posix()}"
    return str(request.getfixturevalue("postgres_url"))


def migrate(url: str) -> None:
    """Bring a console's database to the newest revision."""

    async def run() -> None:
        database = Database(url)
        try:
            await schema.upgrade(database)
        finally:
            await database.close()

    run_in_own_loop(run())


class _Compiled(dict[Any, Any]):
    """Statements that were compiled, under their keys without the engine's dialect: all engines of
    a test process have the same kind of server behind them."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key[1:], value)


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Every test opens engines of its own, which would compile the same statements anew: that
    takes longer than most tests."""
    compiled: dict[str, _Compiled] = defaultdict(_Compiled)

    def create(url: str, **options: Any) -> AsyncEngine:
        cache = compiled[make_url(url).get_backend_name()]
        return create_async_engine(url, execution_options={"compiled_cache": cache}, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "create_async_engine", create)
        yield


_fixtures_measured: set[tuple[str, ...]] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Measure the start of a console once for each set of fixtures: coverage doubles its time."""
    names = tuple(getattr(item, "fixturenames", ()))
    if item.get_closest_marker("unmeasured"):
        return (yield)
    if names not in _fixtures_measured:
        _fixtures_measured.add(names)
        return (yield)
    with unmeasured():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker("unmeasured"):
        return (yield)
    with unmeasured():
        return (yield)


class SqliteTemplates:
    """Files that are filled once: copying one is many times faster than filling another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filled: set[str] = set()

    def template(self, name: str, prepare: Callable[[str], None]) -> Path:
        """Return template `name`; at the first call `prepare(url)` fills it."""
        path = self._folder / f"{name}.db"
        if name not in self._filled:
            prepare(f"sqlite:///{path.as_posix()}")
            self._filled.add(name)
        return path


@pytest.fixture(scope="session")
def sqlite_templates(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplates:
    return SqliteTemplates(tmp_path_factory.mktemp("templates"))


def copied(
    request: pytest.FixtureRequest, name: str, prepare: Callable[[str], None]
) -> Iterator[str]:
    """A fixture's URL: a copy, on the test's kind of database, of what `prepare(url)` makes once
    under a name."""
    if request.getfixturevalue("database_kind") == "sqlite":
        templates: SqliteTemplates = request.getfixturevalue("sqlite_templates")
        path = request.getfixturevalue("tmp_path") / "console.db"
        shutil.copy(templates.template(name, prepare), path)
        yield f"sqlite:///{path.as_posix()}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database(template=server.template(name, prepare))
    yield url
    server.drop_database(url)


@pytest.fixture
def migrated_url(request: pytest.FixtureRequest, database_kind: str) -> Iterator[str]:
    """A database for the console with its tables in it."""
    yield from copied(request, "console_migrated", migrate)


@pytest.fixture
def queue(sqlite_url: str) -> Conveyor:
    queue = Conveyor(sqlite_url)

    @queue.task(name="shop.greet")
    async def greet(name: str, *, loud: bool = False) -> str:
        return name.upper() if loud else name

    @queue.task(name="shop.fail", retry=Retry(max_attempts=1))
    async def fail(why: str) -> None:
        raise ValueError(why)

    return queue


@pytest.fixture
def settings(migrated_url: str) -> Settings:
    return Settings.model_validate(
        {"database_url": migrated_url, "secret_key": SECRET, "allowed_hosts": ("console.test",)}
    )


@pytest.fixture(autouse=True)
def _resting(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a console does beside its requests costs more than most tests: it does so in tests that
    are marked `rounds`, elsewhere the test makes the rounds it wants."""
    if request.node.get_closest_marker("rounds"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Rounds, Recorder):
            patch.setattr(kind, "start", lambda _: None)
        yield


@pytest.fixture
async def app(queue: Conveyor, settings: Settings, clock: TestClock) -> AsyncIterator[FastAPI]:
    app = create_app(queue, settings, clock=clock, passwords=Passwords(QUICK))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def console(app: FastAPI) -> Console:
    found: Console = app.state.console
    return found


class Api:
    """A caller of the API: `None` is nobody, else by bearer token."""

    def __init__(self, app: FastAPI, token: str | None = None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://console.test",
            headers=headers,
        )

    async def call(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        """Make a request, expect a status, return the JSON of the answer."""
        answer = await self.http.request(method, f"/api/v1{path}", **more)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.json() if answer.content else None


@pytest.fixture
async def users(console: Console) -> dict[Role, str]:
    """One user of each role; their ids."""
    made = {}
    hashed = await console.passwords.hash(PASSWORD)
    async with console.database.writing() as db:
        for role in Role:
            user = await create_user(
                db,
                user_id=console.new_id(),
                email=f"{role.value}@example.com",
                password_hash=hashed,
                role=role,
                now=console.clock.now(),
            )
            made[role] = user.id
    return made


async def signed_in(app: FastAPI, role: Role) -> Api:
    """Sign in as the user of a role."""
    granted = await Api(app).call(
        "POST", "/auth/login", json={"email": f"{role.value}@example.com", "password": PASSWORD}
    )
    return Api(app, granted["access_token"])


@pytest.fixture
async def viewer(app: FastAPI, users: dict[Role, str]) -> Api:
    return await signed_in(app, Role.VIEWER)


@pytest.fixture
async def operator(app: FastAPI, users: dict[Role, str]) -> Api:
    return await signed_in(app, Role.OPERATOR)


@pytest.fixture
async def admin(app: FastAPI, users: dict[Role, str]) -> Api:
    return await signed_in(app, Role.ADMIN)


@pytest.fixture
def nobody(app: FastAPI) -> Api:
    return Api(app)


@pytest.fixture
def alerting(console: Console) -> Alerting:
    """The part, whose rounds the test makes itself."""
    return console.part(Alerting)
