"""Real servers for tests, the demo and the benchmarks: without root, Docker or network.

Nothing here needs pytest; `python -m tests.servers valkey --print-url` serves scripts. The fixtures
over these classes are in `tests/conftest.py`.
"""

from tests.servers.base import Server, ServerFailed
from tests.servers.binaries import ServerMissing
from tests.servers.cluster import ValkeyCluster
from tests.servers.postgres import PostgresServer
from tests.servers.sentinel import SentinelSet
from tests.servers.valkey import Aof, ValkeyServer

__all__ = [
    "Aof",
    "PostgresServer",
    "SentinelSet",
    "Server",
    "ServerFailed",
    "ServerMissing",
    "ValkeyCluster",
    "ValkeyServer",
]
