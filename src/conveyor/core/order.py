"""Orders to one worker: what a person wants of it. Pure.

A worker obeys with its next heartbeat. `pause` and `resume` are about taking more tasks; `drain`
lets what runs end, however long that takes, and then ends the worker; `shutdown` is what SIGTERM
means: what runs gets the grace that the worker was started with.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from conveyor.core.errors import InvalidOption

Action = Literal["pause", "resume", "drain", "shutdown"]
Mode = Literal["working", "paused", "draining", "stopping"]
"""What a worker is up to: it takes tasks, takes none, ends when its tasks have, is about to end."""
ACTIONS: tuple[Action, ...] = ("pause", "resume", "drain", "shutdown")


class Order(msgspec.Struct, frozen=True):
    """What a worker is told."""

    action: Action
    by: str = ""
    reason: str = ""
    at: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no worker understands."""
        if self.action not in ACTIONS:
            raise InvalidOption(f"order {self.action!r}: one of {', '.join(ACTIONS)}")
