"""What the supervisor and a child say to each other."""

from __future__ import annotations

import msgspec

from conveyor.worker.settings import WorkerSettings

EXIT_OK = 0
EXIT_USER_ERROR = 2
"""What was asked for cannot be done: no such module, a bad URL."""
EXIT_UNAVAILABLE = 3
"""The broker is down, or its schema is not this version's."""
EXIT_FAULT = 70
"""The engine itself failed; the tasks are not to blame."""
EXIT_ABORTED = 75
"""Told to leave at once, or the supervisor died."""


class Configure(msgspec.Struct, frozen=True, tag=True):
    """The first message to a child."""

    settings: WorkerSettings
    token: str
    board: str
    """Address of the flight board."""


class Go(msgspec.Struct, frozen=True, tag=True):
    """The lease is good: begin to work."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Drain and end."""


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Stop everything and end now, settling nothing."""


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Stop these tasks if they run here."""

    ids: tuple[str, ...]


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Take no more tasks, or take them again."""

    paused: bool


class Drain(msgspec.Struct, frozen=True, tag=True):
    """End when what runs has ended."""


Down = Configure | Go | Stop | Abort | Cancel | Pause | Drain


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The child has imported the app and reached the broker."""

    url: str
    """The broker's URL, for the supervisor's own connection (with its password: never logged)."""
    names: tuple[str, ...]
    """Names of the task definitions it knows."""
    versions: dict[str, str]
    """Code version of each definition, by name."""
    code_version: str
    """One version for all of them."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The child cannot start, and trying again will not help."""

    message: str


class Fault(msgspec.Struct, frozen=True, tag=True):
    """The engine failed by itself; the child ends."""

    message: str


Up = Ready | Refused | Fault

decode_down = msgspec.msgpack.Decoder(Down).decode
decode_up = msgspec.msgpack.Decoder(Up).decode
