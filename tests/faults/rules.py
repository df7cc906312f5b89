"""What a fault proxy tells a test about a command, and what it can be told to do."""

import enum
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["before", "after"]


class Act(enum.Enum):
    """What becomes of one command (phase before) or of its reply (phase after)."""

    FORWARD = "goes on its way"
    DROP = "is swallowed; the connection goes on"
    CLOSE = "is swallowed; the client's connection is closed (FIN)"
    RESET = "is swallowed; the client's connection is reset (RST)"
    SILENCE = "is swallowed; the connection stays open, and nothing passes any more"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a client.

    `name`: `EVALSHA`, `GET`, … or the message, `Query`, `Parse`, `Bind`, `Execute`, …
    `number`: its place among the numbered commands of all connections, from 1; 0 = not numbered.
    `arguments`: those after the name, for PostgreSQL the names and SQL in the message.
    `sql`: the statement that a Query or Parse carries and that a Bind or Execute refers to.
    """

    name: str
    number: int
    connection: int
    arguments: tuple[bytes, ...] = ()
    sql: str = ""


Hook = Callable[[Command, Phase], Act | None]
"""Called in the proxy's thread; blocks all of the proxy while it runs. None means FORWARD."""


@dataclass(slots=True)
class Rule:
    """Something to do once, at one numbered command."""

    number: int
    phase: Phase
    action: Act | Callable[[Command], Act | None]
    fired: threading.Event = field(default_factory=threading.Event)

    def judge(self, command: Command, phase: Phase) -> Act | None:
        """Return what to do with `command`; None when this rule is not about it."""
        if self.fired.is_set() or phase != self.phase or command.number != self.number:
            return None
        act = self.action if isinstance(self.action, Act) else self.action(command)
        # Set after the action, so that who waits for it finds it done.
        self.fired.set()
        return act


def kill(process: int, number: signal.Signals = signal.SIGKILL) -> Callable[[Command], Act]:
    """Return an action that sends a signal to process id `process` and resets its connection.

    With phase before, the server never sees the command; with phase after, it has carried the
    command out and the process dies without the reply.
    """

    def action(_: Command) -> Act:
        os.kill(process, number)
        return Act.RESET

    return action
