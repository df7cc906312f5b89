"""The lock file of an app's task definitions, and waiting tasks that its code does not take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from conveyor.brokers.base import Filter
from conveyor.core.contract import Promise, Promises, promise
from conveyor.core.envelope import is_elsewhere
from conveyor.core.errors import InvalidOption
from conveyor.core.task import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conveyor.app import Conveyor
    from conveyor.brokers.base import Inspector
    from conveyor.core.task import TaskInfo
    from conveyor.tasks import TaskDefinition

PAGE = 500


class Lock(msgspec.Struct, frozen=True):
    """What stands in the file."""

    tasks: dict[str, Promise]


def promises(app: Conveyor) -> dict[str, Promise]:
    """Describe every definition of an app, by name."""
    return {
        name: promise(definition.signature, definition.version, definition.aliases)
        for name, definition in sorted(app.definitions.items())
    }


def write_lock(path: Path, current: Promises) -> None:
    """Write the file: sorted, a line a fact, to be read in a diff."""
    encoded = msgspec.json.format(msgspec.json.encode(Lock(dict(current))), indent=2)
    path.write_bytes(encoded + b"\n")


def read_lock(path: Path) -> dict[str, Promise]:
    """Read the file. Raises `InvalidOption` when it is missing or is no lock file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Lock).tasks
    except FileNotFoundError:
        raise InvalidOption(f"no lock file {str(path)!r}: write it first, and commit it") from None
    except msgspec.MsgspecError as exc:
        raise InvalidOption(f"{str(path)!r} is no lock file of tasks: {exc}") from None


async def misfits(
    inspector: Inspector,
    names: Mapping[str, TaskDefinition[..., object, object]],
    most: int,
) -> list[str]:
    """Look at up to `most` waiting tasks, the newest first; say which the code does not take."""
    sentences: list[str] = []
    before: str | None = None
    seen = 0
    while seen < most:
        where = Filter(states=(State.QUEUED, State.SCHEDULED), before=before, limit=PAGE)
        page = await inspector.tasks(where)
        sentences += [text for info in page if (text := _misfit(info, names)) is not None]
        seen += len(page)
        if len(page) < PAGE:
            break
        before = page[-1].id
    return sentences


def _misfit(info: TaskInfo, names: Mapping[str, TaskDefinition[..., object, object]]) -> str | None:
    definition = names.get(info.name)
    if definition is None:
        return f"{info.name}: task {info.id} waits, and no definition has this name or alias"
    if definition.version > 1 or is_elsewhere(info.args):
        return None  # Of an older version, which upcasters know, or not to be seen here.
    try:
        definition.signature.check(info.args, info.kwargs)
    except TypeError as exc:
        text = str(exc).removesuffix("; nothing was enqueued")
        return f"{info.name}: the arguments of waiting task {info.id} do not fit: {text}"
    return None
