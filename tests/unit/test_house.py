"""The house rules that no linter knows: sizes, names, the front door, locks without addresses."""

import ast
import graphlib
import importlib
import inspect
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_MEDIAN_LINES = 150
MAX_FUNCTION_LINES = 50
MAX_ROOT_FILES = 12
MAX_FRONT_DOOR = 24
NAMELESS = {"common", "helper", "helpers", "manager", "managers", "misc", "shared", "util", "utils"}
UNPICKLERS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
# Put together here, so that this file does not name them itself.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
        ("proxy", "golang", "org"),
    ]
]


def _listed_by_git() -> list[str] | None:
    # A clone that another user owns is fine to read: the gate runs as root and as an ordinary user.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    try:
        found = subprocess.run(
            [*command, "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.decode().split("\0")


@cache
def _repository_files() -> tuple[Path, ...]:
    """Every file that is or would be committed; without git, all but environments and caches."""
    listed = _listed_by_git()
    if listed is not None:
        paths = [ROOT / name for name in listed if name]
    else:
        skipped = re.compile(r"(^|/)(\.venv[^/]*|\.git|__pycache__|\.\w+_cache|\.hypothesis)/")
        paths = [p for p in ROOT.rglob("*") if not skipped.search(p.relative_to(ROOT).as_posix())]
    return tuple(path for path in paths if path.is_file())


def _is_malformed_on_purpose(path: Path) -> bool:
    return "malformed" in path.relative_to(ROOT).parts


@cache
def _python_files() -> tuple[Path, ...]:
    return tuple(
        path
        for path in _repository_files()
        if path.suffix == ".py" and not _is_malformed_on_purpose(path)
    )


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    if not body:
        return 0
    text = lines[body[0].lineno - 1 : function.end_lineno]
    return sum(1 for line in text if line.strip() and not line.lstrip().startswith("#"))


def _long_functions(path: Path) -> Iterator[str]:
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = _code_lines(node, lines)
            if count > MAX_FUNCTION_LINES:
                yield f"{_name(path)}:{node.lineno} {node.name} has {count} code lines"


def test_no_python_file_is_too_long() -> None:
    long = {_name(p): n for p in _python_files() if (n := _line_count(p)) > MAX_FILE_LINES}
    assert not long, f"split these files: {long}"


def test_the_median_source_file_is_short() -> None:
    counts = [_line_count(p) for p in _python_files() if p.is_relative_to(ROOT / "src")]
    assert statistics.median(counts) <= MAX_MEDIAN_LINES


def test_no_function_is_too_long() -> None:
    long = [found for path in _python_files() for found in _long_functions(path)]
    assert not long, "make a pipeline of named steps of:\n" + "\n".join(long)


def test_the_root_stays_small() -> None:
    visible = {
        path.name
        for path in _repository_files()
        if path.parent == ROOT and not path.name.startswith(".")
    }
    assert len(visible) <= MAX_ROOT_FILES, sorted(visible)


def test_every_module_is_named_after_a_concept() -> None:
    nameless = [
        _name(p)
        for p in _python_files()
        if NAMELESS & set(p.relative_to(ROOT).with_suffix("").parts)
    ]
    assert not nameless, f"say in the name what these do: {nameless}"


def _imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_nothing_is_ever_unpickled() -> None:
    guilty = {
        _name(p): found
        for p in _python_files()
        if p.is_relative_to(ROOT / "src") and (found := _imported_names(p) & UNPICKLERS)
    }
    assert not guilty, f"use conveyor.core.codec instead: {guilty}"


def test_no_file_names_a_package_registry() -> None:
    guilty = [
        f"{_name(path)}: {host}"
        for path in _repository_files()
        for content in [path.read_bytes().lower()]
        for host in REGISTRY_HOSTS
        if host.encode() in content
    ]
    assert not guilty, "a mirror must be able to take the registry's place:\n" + "\n".join(guilty)


@pytest.mark.parametrize(
    "lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name
)
def test_every_pin_of_a_lock_has_a_hash(lock: Path) -> None:
    logical_lines = lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pins = [line for line in logical_lines if line and not line.lstrip().startswith("#")]
    loose = [line for line in pins if "==" not in line or "--hash=sha256:" not in line]
    assert pins
    assert not loose, f"run make lock: {loose}"


def test_every_extra_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *(r for name in extras for r in extras[name])]
    names = {re.split(r"[\[<>=; ]", requirement, maxsplit=1)[0] for requirement in wanted}
    locked = (ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8")
    missing = {
        n
        for n in names - {"conveyor"}
        if not re.search(rf"^{re.escape(n)}(\[.+\])?==", locked, re.MULTILINE)
    }
    assert not missing, f"run make lock for: {sorted(missing)}"


def test_the_front_door_is_narrow() -> None:
    door = importlib.import_module("conveyor")
    assert len(door.__all__) <= MAX_FRONT_DOOR
    assert len(set(door.__all__)) == len(door.__all__)


def test_every_exported_object_explains_itself() -> None:
    door = importlib.import_module("conveyor")
    exported = {name: getattr(door, name) for name in door.__all__ if not name.startswith("__")}
    silent = [
        name
        for name, value in exported.items()
        if (inspect.isclass(value) or inspect.isroutine(value)) and not inspect.getdoc(value)
    ]
    assert not silent, f"write docstrings for: {silent}"


def test_no_module_bears_the_name_of_an_exported_object() -> None:
    modules = {path.stem for path in (ROOT / "src" / "conveyor").iterdir()}
    taken = modules & set(importlib.import_module("conveyor").__all__)
    assert not taken, f"importing the module would replace the object: {sorted(taken)}"


def test_imports_have_no_cycles() -> None:
    graph = grimp.build_graph("conveyor", exclude_type_checking_imports=False, cache_dir=None)
    sorter = graphlib.TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )
    sorter.prepare()  # raises CycleError, which names the modules of the cycle
    assert graph.modules


def _relative_links(path: Path) -> Iterator[str]:
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:|#", target):
            yield target.partition("#")[0]


def test_every_relative_link_of_the_documents_leads_somewhere() -> None:
    broken = [
        f"{_name(path)}: {target}"
        for path in _repository_files()
        if path.suffix == ".md"
        for target in _relative_links(path)
        if not (path.parent / target).exists()
    ]
    assert not broken, "\n".join(broken)
