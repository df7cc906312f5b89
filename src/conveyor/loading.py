"""Find an app by `MODULE:APP`, as the command line names it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from conveyor.app import Conveyor
from conveyor.core.errors import InvalidOption


def load(target: str) -> tuple[Conveyor, str]:
    """Import `MODULE:APP`, with the current directory importable; returns the app and MODULE.

    Raises `InvalidOption` with one sentence that says which part is wrong.
    """
    name, colon, attribute = target.partition(":")
    if not name or not colon or not attribute:
        raise InvalidOption(f"{target!r} is not MODULE:APP, e.g. shop.tasks:app")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found = _attribute(_import(name), name, attribute)
    if not isinstance(found, Conveyor):
        raise InvalidOption(f"{target!r} is of type {type(found).__name__}, not a Conveyor app")
    return found, name


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise InvalidOption(
                f"no module named {exc.name!r} here ({Path.cwd()}): MODULE is imported like in "
                "Python, from the current directory"
            ) from None
        raise InvalidOption(f"importing {name!r} failed: {exc}") from exc
    except SystemExit as exc:
        raise InvalidOption(f"importing {name!r} ended with sys.exit({exc.code})") from exc
    except Exception as exc:
        said = " ".join(str(exc).split())
        raise InvalidOption(f"importing {name!r} failed: {type(exc).__name__}: {said}") from exc


def _attribute(module: ModuleType, name: str, attribute: str) -> object:
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InvalidOption(f"module {name!r} has no {attribute!r}")
        found = getattr(found, part)
    return found
