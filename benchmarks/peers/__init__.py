"""One small adapter per task queue and store."""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """Where an adapter is found."""

    name: str
    module: str
    store: str


def _peer(name: str, module: str, store: str) -> Peer:
    return Peer(name, f"benchmarks.peers.{module}", store)


PEERS = [
    _peer("conveyor-redis", "conveyor", "redis"),
    _peer("celery", "celery", "redis"),
    _peer("dramatiq", "dramatiq", "redis"),
    _peer("rq", "rq", "redis"),
    _peer("taskiq", "taskiq", "redis"),
    _peer("huey-redis", "huey", "redis"),
    _peer("saq", "saq", "redis"),
    _peer("streaq", "streaq", "redis"),
    _peer("repid", "repid", "redis"),
    _peer("pydocket", "pydocket", "redis"),
    _peer("conveyor-postgres", "conveyor", "postgres"),
    _peer("procrastinate", "procrastinate", "postgres"),
    _peer("pgqueuer", "pgqueuer", "postgres"),
    _peer("oban", "oban", "postgres"),
    _peer("awa", "awa", "postgres"),
    _peer("conveyor-sqlite", "conveyor", "sqlite"),
    _peer("huey-sqlite", "huey", "sqlite"),
]
