"""The README's steps without make, which would install software and start this suite again, are
checked against what `make` does."""

import importlib.util
import re

from tests.docs.pages import ROOT, blocks

STEPS = next(
    b.code for b in blocks(ROOT / "README.md") if b.language == "text" and "venv" in b.code
)


def test_the_files_that_the_steps_name_are_there() -> None:
    named = re.findall(r"--requirement (\S+)", STEPS)

    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_the_modules_that_the_steps_run_are_there() -> None:
    modules = set(re.findall(r"-m (\S+)", STEPS)) - {"venv", "pip"}

    assert len(modules) >= 2
    assert all(importlib.util.find_spec(module) for module in modules)


def test_the_steps_install_as_make_does() -> None:
    script = (ROOT / "scripts" / "setup.sh").read_text("utf-8")
    flags = re.findall(r"(--no-deps|--no-build-isolation|--editable|--require-hashes)", STEPS)

    assert len(flags) == 5
    assert all(flag in script for flag in flags)
