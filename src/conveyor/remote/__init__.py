"""Enqueue over HTTP: for services that have no connection to the broker.

    from conveyor.remote import Remote

    with Remote("https://conveyor.example.com", "cv_…") as remote:
        made = remote.enqueue("shop.send", ["ada@example.org"], priority="high")
        print(remote.result(made.id, timeout=30))

`AsyncRemote` is the same with `await`. Both talk to a console (`conveyor serve`, `conveyor up`)
with an API key, and need `conveyor[remote]`.
"""

from conveyor.remote.clients import AsyncRemote, Remote
from conveyor.remote.shapes import Enqueued, NewTask, RemoteExecution, RemoteFailure, RemoteTask

__all__ = [
    "AsyncRemote",
    "Enqueued",
    "NewTask",
    "Remote",
    "RemoteExecution",
    "RemoteFailure",
    "RemoteTask",
]
