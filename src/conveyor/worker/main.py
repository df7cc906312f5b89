"""The process that stays when a worker is started: the supervisor, and nothing else.

Reading a command line takes modules that a supervisor never needs and could not give back (typer,
pydantic: 13 MB of 43). So the command replaces itself by `python -m conveyor.worker.main IN`, which
keeps its number, its parent and its descriptors, and reads its settings from the pipe `IN`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import msgspec

from conveyor.worker.settings import WorkerSettings
from conveyor.worker.supervisor import run

if TYPE_CHECKING:
    from collections.abc import Sequence


_PIPE = 16_384
"""Bytes that every system's pipe takes before anybody reads."""


def become(settings: WorkerSettings, words: Sequence[str] = ()) -> int:
    """Turn this process into the supervisor of a worker: does not return.

    `words` are only for people who look at the list of processes. Where that cannot be done (on
    Windows, or with hundreds of queues), it supervises as it is and returns the exit code.
    """
    told = msgspec.msgpack.encode(settings)
    if os.name == "posix" and len(told) <= _PIPE:
        # Not as an argument: the URL may hold a password, and everybody can read arguments.
        read, write = os.pipe()
        os.write(write, told)
        os.close(write)
        os.set_inheritable(read, True)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, "-m", __name__, str(read), *words])  # noqa: S606
    return run(settings)


def main(arguments: Sequence[str]) -> int:
    """Read the settings and supervise; returns the exit code."""
    read = int(arguments[0])
    told = os.read(read, _PIPE)
    os.close(read)
    return run(msgspec.msgpack.decode(told, type=WorkerSettings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
