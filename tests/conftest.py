"""Fixtures of the whole suite: real servers, fresh stores, and the watch for what tests leak."""

import gc
import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from coverage import Coverage

from tests.leaks import LeakWatch, _no_leaked_tasks
from tests.servers import PostgresServer, ServerMissing, ValkeyServer

__all__ = ["_no_leaked_tasks"]
pytest_plugins = ["conveyor.testing.plugin"]

STORES = ("sqlite", "postgres", "redis")
# A test that asks for one of these fixtures gets the store's marker by itself.
_STORE_OF_FIXTURE = {
    "sqlite_url": "sqlite",
    "postgres": "postgres",
    "postgres_url": "postgres",
    "valkey": "redis",
    "redis_url": "redis",
}
_MISSING = "MISSING SERVER: "
_MEASURE_CHILDREN = "COVERAGE_PROCESS_CONFIG"
"""By this variable coverage.py tells a child process to measure itself."""


# Tests rewrite modules faster than the time stamp of their bytecode can tell: child processes read
# what has been compiled, and add nothing.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    for store in STORES:
        config.addinivalue_line("markers", f"{store}: needs this store (-m 'not {store}')")
    config.pluginmanager.register(LeakWatch(), "conveyor-leaks")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if name in _STORE_OF_FIXTURE:
                item.add_marker(_STORE_OF_FIXTURE[name])
    # Shuffled already. What is slow mostly waits: it begins early, so that none of it is left for
    # the end, when only one process of the suite has something to do, but not all of it at once.
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    step = max(1, len(quick) * 3 // 5 // max(1, len(slow)))
    for number, item in enumerate(slow):
        quick.insert(number * (step + 1), item)
    items[:] = quick


def pytest_collection_finish() -> None:
    # Half a million objects that live as long as the run: garbage is looked for among the others,
    # and seldom. `LeakWatch` looks for it when something seems to be left.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """The processes of the suite measure themselves by pytest-cov: not as any child process too."""
    os.environ.pop(_MEASURE_CHILDREN, None)


@contextmanager
def unmeasured() -> Iterator[None]:
    """While entered, coverage looks neither at this thread nor at processes that are started."""
    children = os.environ.pop(_MEASURE_CHILDREN, None)
    measuring = coverage = Coverage.current()
    # In a process of xdist pytest-cov begins twice, and what ends lets the one below go on.
    while coverage is not None:
        coverage.stop()
        coverage = Coverage.current()
    try:
        yield
    finally:
        if measuring is not None:
            measuring.start()
        if children is not None:
            os.environ[_MEASURE_CHILDREN] = children


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure neither an `unmeasured` test nor the processes that it starts."""
    if not item.get_closest_marker("unmeasured"):
        return (yield)
    with unmeasured():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    with skip_without_server():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    with skip_without_server():
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what chaos has counted, and say aloud what was not tested: a skip is overlooked."""
    ended = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    ledgers = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for report in ended
        for name, value in getattr(report, "user_properties", ())
        if name == "ledger"
    ]
    if ledgers:
        terminalreporter.section("chaos, counted")
        for line in sorted(ledgers):
            terminalreporter.line(line)
    reports = terminalreporter.stats.get("skipped", [])
    reasons = [str(report.longrepr[-1]) for report in reports if report.longrepr]
    missing = [reason.partition(_MISSING)[2] for reason in reasons if _MISSING in reason]
    if missing:
        terminalreporter.section("NOT TESTED: servers are missing", red=True, bold=True)
        for reason in sorted(set(missing)):
            terminalreporter.line(f"{missing.count(reason)} tests skipped. {reason}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio (`anyio_mode = "auto"`: no marker needed)."""
    return "asyncio"


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """The Valkey server of this test process, shared: a test that stops it starts its own."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> Iterator[str]:
    """A namespace of its own on the shared Valkey server, emptied after the test."""
    yield f"{valkey.url}?namespace=t{secrets.token_hex(4)}"
    with valkey.client() as client:
        client.flushall()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL server of this test process, shared: a test that stops it starts its own."""
    with PostgresServer() as server, server.connected():
        yield server


@pytest.fixture(scope="session")
def postgres_template() -> str:
    """The database that `postgres_url` clones; a folder that needs tables overrides this."""
    return "template0"


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A database of its own, cloned from `postgres_template`, dropped after the test."""
    url = postgres.create_database(template=postgres_template)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database file of its own, not yet there."""
    return f"sqlite:///{(tmp_path / 'conveyor.db').as_posix()}"


@pytest.fixture(params=[pytest.param(s, id=s, marks=getattr(pytest.mark, s)) for s in STORES])
def broker_url(request: pytest.FixtureRequest) -> str:
    """A fresh store of each kind in turn: the test runs once on every one."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@contextmanager
def skip_without_server() -> Iterator[None]:
    """Skip the test when its server is missing; with CI=true, fail."""
    try:
        yield
    except ServerMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{_MISSING}{missing} (With CI=true this fails.)", pytrace=False)
        pytest.skip(f"{_MISSING}{missing}")
