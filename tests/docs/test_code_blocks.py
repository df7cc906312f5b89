"""Every Python and shell block of the documentation runs, in order, on a fresh SQLite file."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conveyor.brokers.url import connect
from tests.docs.pages import DOCS, ROOT, RUNNABLE, SHOWN, blocks, has_code, name_of, pages

_SESSION = Path(__file__).with_name("session.py")
_WITH_CODE = [page for page in pages() if has_code(page)]
# These would install software, or start this very suite again: the page's `make` only says what it
# would do, which fails for a verb that does not exist.
_DRY_MAKE = '#!/bin/sh\nexec "{make}" --dry-run -C "{root}" "$@"\n'


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_names_a_known_language(page: Path) -> None:
    found = blocks(page)
    unknown = [b for b in found if b.language not in RUNNABLE + SHOWN]

    assert not unknown
    assert has_code(page) == any(b.language in RUNNABLE for b in found)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_python_is_never_hidden_in_a_block_that_is_not_run(page: Path) -> None:
    smuggled = [b for b in blocks(page) if b.language == "text" and "import conveyor" in b.code]
    smuggled += [b for b in blocks(page) if b.language == "text" and "from conveyor" in b.code]

    assert not smuggled


@pytest.mark.parametrize("page", _WITH_CODE, ids=name_of)
@pytest.mark.slow
@pytest.mark.unmeasured
def test_the_code_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    if "curl " in page.read_text("utf-8") and shutil.which("curl") is None:
        pytest.skip("this page calls curl, which is not installed here")
    _read(page, tmp_path, {})


@pytest.mark.unmeasured
def test_the_quickstart_runs_on_every_store_by_url_alone(broker_url: str, tmp_path: Path) -> None:
    asyncio.run(_migrate(broker_url))

    _read(DOCS / "tutorial" / "quickstart.md", tmp_path, {"CONVEYOR_URL": broker_url})


async def _migrate(url: str) -> None:
    broker = connect(url)
    try:
        await broker.migrate()
    finally:
        await broker.close()


def _read(page: Path, tmp_path: Path, settings: dict[str, str]) -> None:
    """Do what the page says, as its reader would, in an empty folder."""
    folder = tmp_path / "reader"
    folder.mkdir()
    steps = [block.step() for block in blocks(page) if block.language in RUNNABLE]
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"page": name_of(page), "steps": steps}), "utf-8")

    ran = subprocess.run(
        [sys.executable, "-W", "error", _SESSION, plan],
        cwd=folder,
        env={**_environment(tmp_path / "bin"), **settings},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


def _environment(shims: Path) -> dict[str, str]:
    shims.mkdir()
    make = shims / "make"
    make.write_text(_DRY_MAKE.format(make=shutil.which("make"), root=ROOT), "utf-8")
    make.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CONVEYOR_", "PYTEST_"))}
    path = os.pathsep.join([str(shims), str(Path(sys.executable).parent), kept.get("PATH", "")])
    return {**kept, "PATH": path, "COLUMNS": "120", "NO_COLOR": "1", "MAKEFLAGS": ""}
