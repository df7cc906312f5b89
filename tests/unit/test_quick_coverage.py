"""Our quick coverage of greenlets and the slow one of coverage.py see the same."""

import os
import subprocess
import sys
from pathlib import Path

import coverage
import pytest

# Every switch is a function's own: the slow way notices one at the next call or return only.
PROGRAM = """
import threading
from greenlet import getcurrent, greenlet

def switch(to, *arguments):
    return to.switch(*arguments)

def throw(to, error):
    return to.throw(error)

def inner(parent, odd):
    if odd:
        switch(parent, "odd")
    else:
        switch(parent, "even")
    return "ended"

def outer(number):
    child = greenlet(inner)
    said = switch(child, getcurrent(), number % 2)
    if said == "even":
        said += switch(child)
        return said
    try:
        throw(child, KeyError)
    except KeyError:
        said += "thrown"
    return said

def several():
    for number in range(4):
        outer(number)

several()
thread = threading.Thread(target=several)
thread.start()
thread.join()
"""
SLOW = 'concurrency = ["greenlet", "thread"]'
QUICK = 'plugins = ["quick_coverage"]'


def _covered(folder: Path, program: str, how: str) -> coverage.CoverageData:
    folder.mkdir()
    config = folder / "coverage.toml"
    config.write_text(f"[tool.coverage.run]\nbranch = true\n{how}\n")
    (folder / "program.py").write_text(program)
    data = folder / "data"
    run = [sys.executable, "-m", "coverage", "run", f"--rcfile={config}", f"--data-file={data}"]
    environment = {name: value for name, value in os.environ.items() if "COV_" not in name}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    subprocess.run([*run, "program.py"], env=environment, cwd=folder, check=True, timeout=60)
    read = coverage.CoverageData(str(data))
    read.read()
    return read


def _arcs(folder: Path, how: str) -> set[tuple[int, int]]:
    covered = _covered(folder, PROGRAM, f'{how}\ninclude = ["*/program.py"]')
    return set(covered.arcs(str(folder / "program.py")) or ())


def test_the_quick_way_sees_what_the_slow_one_sees(tmp_path: Path) -> None:
    quick = _arcs(tmp_path / "quick", QUICK)
    assert len(quick) > 30
    assert quick == _arcs(tmp_path / "slow", SLOW)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="coverage.py keeps no stack there")
def test_without_either_it_would_be_wrong(tmp_path: Path) -> None:
    neither = _arcs(tmp_path / "neither", 'concurrency = ["thread"]')
    assert neither != _arcs(tmp_path / "slow", SLOW)


def test_what_nobody_imports_counts_as_well(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "lonely.py").write_text("print('never')")
    covered = _covered(tmp_path / "run", "pass", f"{QUICK}\nsource = ['{source}']")
    assert str(source / "lonely.py") in covered.measured_files()


@pytest.mark.unmeasured
def test_what_is_unmeasured_is_not_traced() -> None:
    assert sys.gettrace() is None
